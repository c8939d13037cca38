#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <array>

#include "net/certificates.h"

namespace celslm {
namespace {

std::string openssl_error() {
  std::array<char, 256> text{};
  ERR_error_string_n(ERR_get_error(), text.data(), text.size());
  ERR_clear_error();
  return text.data();
}

// Sessions are not resumed: that would skip the look at the certificate, which may have expired since.
bool is_mismatch(unsigned long error) {
  return ERR_GET_LIB(error) == ERR_LIB_X509 &&
         (ERR_GET_REASON(error) == X509_R_KEY_VALUES_MISMATCH || ERR_GET_REASON(error) == X509_R_KEY_TYPE_MISMATCH);
}

Status ask_for_certificates(SSL_CTX* context, const std::string& authority_file) {
  if (SSL_CTX_load_verify_file(context, authority_file.c_str()) != 1)
    return fail(ErrorKind::kInvalid, "{}: no usable PEM certificate of an authority: {}", authority_file, openssl_error());
  STACK_OF(X509_NAME)* names = SSL_load_client_CA_file(authority_file.c_str());
  if (names == nullptr)
    return fail(ErrorKind::kInvalid, "{}: no usable PEM certificate of an authority: {}", authority_file, openssl_error());
  SSL_CTX_set_client_CA_list(context, names);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
  SSL_CTX_set_num_tickets(context, 0);
  return {};
}

}  // namespace

void TlsSession::Free::operator()(ssl_st* ssl) const {
  SSL_free(ssl);
}
void TlsContext::Free::operator()(ssl_ctx_st* context) const {
  SSL_CTX_free(context);
}

Result<std::unique_ptr<TlsContext>> TlsContext::create(const TlsFiles& files) {
  std::unique_ptr<TlsContext> out(new TlsContext(SSL_CTX_new(TLS_server_method())));
  SSL_CTX* context = out->context_.get();
  if (context == nullptr) return fail(ErrorKind::kInternal, "OpenSSL: {}", openssl_error());
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  if (SSL_CTX_use_certificate_chain_file(context, files.certificate.c_str()) != 1) {
    return fail(ErrorKind::kInvalid, "{}: no usable PEM certificate: {}", files.certificate, openssl_error());
  }
  // Compares the key with the certificate, too.
  if (SSL_CTX_use_PrivateKey_file(context, files.key.c_str(), SSL_FILETYPE_PEM) != 1) {
    if (is_mismatch(ERR_peek_last_error()))
      return fail(ErrorKind::kMismatch, "{} is not the key of {}: {}", files.key, files.certificate, openssl_error());
    return fail(ErrorKind::kInvalid, "{}: no usable PEM key: {}", files.key, openssl_error());
  }
  if (!files.client_authority.empty()) CELSLM_CHECK_OK(ask_for_certificates(context, files.client_authority));
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

std::string TlsSession::peer_name() const {
  const X509* certificate = SSL_get0_peer_certificate(ssl_.get());
  if (certificate == nullptr || SSL_get_verify_result(ssl_.get()) != X509_V_OK) return "";
  return common_name(certificate);
}

std::string TlsSession::certificate_problem() const {
  const long result = SSL_get_verify_result(ssl_.get());
  return result == X509_V_OK ? "" : X509_verify_cert_error_string(result);
}

void TlsSession::close_notify() {
  if (SSL_in_init(ssl_.get()) == 0) SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

}  // namespace celslm
