#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <array>

namespace celslm {
namespace {

std::string openssl_error() {
  std::array<char, 256> text{};
  ERR_error_string_n(ERR_get_error(), text.data(), text.size());
  ERR_clear_error();
  return text.data();
}

}  // namespace

void TlsSession::Free::operator()(ssl_st* ssl) const {
  SSL_free(ssl);
}
void TlsContext::Free::operator()(ssl_ctx_st* context) const {
  SSL_CTX_free(context);
}

Result<std::unique_ptr<TlsContext>> TlsContext::create(const std::string& certificate_file, const std::string& key_file) {
  std::unique_ptr<TlsContext> out(new TlsContext(SSL_CTX_new(TLS_server_method())));
  SSL_CTX* context = out->context_.get();
  if (context == nullptr) return fail(ErrorKind::kInternal, "OpenSSL: {}", openssl_error());
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  if (SSL_CTX_use_certificate_chain_file(context, certificate_file.c_str()) != 1) {
    return fail(ErrorKind::kInvalid, "{}: no usable PEM certificate: {}", certificate_file, openssl_error());
  }
  if (SSL_CTX_use_PrivateKey_file(context, key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    return fail(ErrorKind::kInvalid, "{}: no usable PEM key: {}", key_file, openssl_error());
  }
  if (SSL_CTX_check_private_key(context) != 1) {
    return fail(ErrorKind::kMismatch, "{} is not the key of {}: {}", key_file, certificate_file, openssl_error());
  }
  return out;
}

std::unique_ptr<TlsSession> TlsContext::accept(int socket) const {
  SSL* ssl = SSL_new(context_.get());
  if (ssl == nullptr) return nullptr;
  std::unique_ptr<TlsSession> out(new TlsSession(ssl));
  if (SSL_set_fd(ssl, socket) != 1) return nullptr;
  SSL_set_accept_state(ssl);
  return out;
}

TlsWant TlsSession::want(int result) {
  const int code = SSL_get_error(ssl_.get(), result);
  ERR_clear_error();
  if (code == SSL_ERROR_WANT_READ) return TlsWant::kRead;
  if (code == SSL_ERROR_WANT_WRITE) return TlsWant::kWrite;
  return TlsWant::kClosed;
}

TlsWant TlsSession::handshake() {
  const int result = SSL_do_handshake(ssl_.get());
  return result == 1 ? TlsWant::kDone : want(result);
}

TlsWant TlsSession::read(char* data, std::size_t size, std::size_t& n) {
  const int result = SSL_read_ex(ssl_.get(), data, size, &n);
  return result == 1 ? TlsWant::kDone : want(result);
}

TlsWant TlsSession::write(const char* data, std::size_t size, std::size_t& n) {
  const int result = SSL_write_ex(ssl_.get(), data, size, &n);
  return result == 1 ? TlsWant::kDone : want(result);
}

void TlsSession::close_notify() {
  if (SSL_in_init(ssl_.get()) == 0) SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

}  // namespace celslm
