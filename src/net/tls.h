// TLS for the server's side of a connection, over OpenSSL. The client's side is libcurl's.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "core/result.h"

// OpenSSL's opaque types, so that <openssl/ssl.h> stays in tls.cpp.
struct ssl_ctx_st;
struct ssl_st;

namespace celslm {

// What a non-blocking TLS call needs before it can go on.
enum class TlsWant { kDone, kRead, kWrite, kClosed };

// One connection's TLS state over a non-blocking socket it does not own. One thread at a time.
class TlsSession {
 public:
  TlsWant handshake();
  TlsWant read(char* data, std::size_t size, std::size_t& n);
  TlsWant write(const char* data, std::size_t size, std::size_t& n);
  void close_notify();  // tells the peer that the stream ends here on purpose

 private:
  friend class TlsContext;
  struct Free {
    void operator()(ssl_st* ssl) const;
  };
  explicit TlsSession(ssl_st* ssl) : ssl_(ssl) {}
  TlsWant want(int result);
  std::unique_ptr<ssl_st, Free> ssl_;
};

// A certificate with its key. Thread-safe after creation.
class TlsContext {
 public:
  // kIo or kInvalid with the file's name.
  static Result<std::unique_ptr<TlsContext>> create(const std::string& certificate_file, const std::string& key_file);
  std::unique_ptr<TlsSession> accept(int socket) const;  // null when out of memory

 private:
  struct Free {
    void operator()(ssl_ctx_st* context) const;
  };
  explicit TlsContext(ssl_ctx_st* context) : context_(context) {}
  std::unique_ptr<ssl_ctx_st, Free> context_;
};

}  // namespace celslm
