// Where a Valkey server is, as people write it: valkey://HOST[:PORT][/DB], or by the sentinels that watch over its replicas:
// valkey-sentinel://HOST[:PORT][,HOST[:PORT]...]/NAME[/DB]; valkeys:// and valkeys-sentinel:// with TLS.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace celslm {

struct HostAndPort {
  std::string host;  // an IPv6 address without brackets
  int port = 0;
  bool operator==(const HostAndPort&) const = default;
};

struct ValkeyAddress {
  std::string host;  // as HostAndPort's
  int port = 6379;
  std::vector<HostAndPort> sentinels;  // not empty: these know where the server is now; host and port are not used
  std::string name;                    // under which they know it
  int database = 0;
  bool tls = false;
  std::string password;  // empty: none is sent
  std::string ca_file;   // for TLS: the authority of the server's certificate; empty: the system's

  std::string text() const;  // for logs: without the password
};

inline constexpr std::size_t kMaxSentinels = 16;

// The schemes redis:// and rediss:// mean valkey:// and valkeys://. kInvalid for anything else, also for a password in the
// URL, which would stand in the process list: it belongs into a file. The message does not repeat the URL.
Result<ValkeyAddress> parse_valkey_url(std::string_view url);

}  // namespace celslm
