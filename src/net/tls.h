// Server-side TLS, by OpenSSL. Client-side TLS is handled by libcurl.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "core/result.h"

// OpenSSL's opaque types, so that <openssl/ssl.h> stays in tls.cpp.
struct ssl_ctx_st;
struct ssl_st;

namespace celslm {

// The result of a non-blocking TLS call: done, or what to wait for before calling again.
enum class TlsWant { kDone, kRead, kWrite, kClosed };

// TLS state of one connection. Does not own the (non-blocking) socket, which must outlive it. Not thread-safe.
class TlsSession {
 public:
  TlsWant handshake();
  TlsWant read(char* data, std::size_t size, std::size_t& n);
  TlsWant write(const char* data, std::size_t size, std::size_t& n);
  void close_notify();  // tells the peer that the stream ends intentionally
  // After the handshake: the common name in the client's certificate, printable(); empty if it sent none.
  std::string peer_name() const;
  // After a handshake that failed because of the client's certificate: why it was refused; else empty.
  std::string certificate_problem() const;

 private:
  friend class TlsContext;
  struct Free {
    void operator()(ssl_st* ssl) const;
  };
  explicit TlsSession(ssl_st* ssl) : ssl_(ssl) {}
  TlsWant want(int result);
  std::unique_ptr<ssl_st, Free> ssl_;
};

// PEM files.
struct TlsFiles {
  std::string certificate;
  std::string key;
  std::string client_authority;  // whose certificates clients may show; empty: clients are not asked for any
};

// A certificate with its key. Thread-safe.
class TlsContext {
 public:
  // kInvalid for an unusable file, kMismatch if the key does not belong to the certificate, both with the file's name;
  // kInternal if OpenSSL fails. With a client authority, a client may show no certificate, but not one that is not the
  // authority's, has expired or is not meant for clients: that ends the handshake.
  static Result<std::unique_ptr<TlsContext>> create(const TlsFiles& files);
  std::unique_ptr<TlsSession> accept(int socket) const;  // null if out of memory

 private:
  struct Free {
    void operator()(ssl_ctx_st* context) const;
  };
  explicit TlsContext(ssl_ctx_st* context) : context_(context) {}
  std::unique_ptr<ssl_ctx_st, Free> context_;
};

}  // namespace celslm
