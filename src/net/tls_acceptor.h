// A server's certificate, read again when its files have changed: it runs for longer than certificates are valid.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "core/log.h"
#include "core/result.h"
#include "net/tls.h"

namespace celslm {

// Used by one thread at a time.
class TlsAcceptor {
 public:
  // Errors as those of TlsContext::create().
  static Result<std::unique_ptr<TlsAcceptor>> create(TlsFiles files, Log log);

  // With the files as they are now. Those that cannot be used are reported once and leave the certificate as it was; so it
  // does no harm that a certificate and its key change one after the other. Null if out of memory.
  std::unique_ptr<TlsSession> accept(int socket);

 private:
  // What tells a file from the one that had its name before.
  struct Stamp {
    std::uint64_t inode = 0;
    std::int64_t bytes = 0;
    std::int64_t modified_ns = 0;
    bool operator==(const Stamp&) const = default;
  };
  using Stamps = std::array<Stamp, 3>;  // of certificate, key, authority

  TlsAcceptor(TlsFiles files, Stamps stamps, std::unique_ptr<TlsContext> context, Log log)
      : files_(std::move(files)), log_(std::move(log)), stamps_(stamps), context_(std::move(context)) {}
  static Stamp stamp_of(const std::string& path);
  static Stamps stamps_of(const TlsFiles& files);
  void read_again();

  const TlsFiles files_;
  const Log log_;
  Stamps stamps_;  // of what was read last, usable or not
  std::unique_ptr<TlsContext> context_;
};

}  // namespace celslm
