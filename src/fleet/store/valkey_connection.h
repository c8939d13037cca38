// One connection to a Valkey server (hiredis), each of whose calls is bounded in time and in bytes.
#pragma once

#include <hiredis/hiredis.h>

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "fleet/store/valkey_address.h"

namespace celslm {

using ValkeyCommand = std::vector<std::string>;

struct FreeReply {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};
using ValkeyReply = std::unique_ptr<redisReply, FreeReply>;

struct ValkeyLimits {
  std::chrono::milliseconds connect{1'000};
  std::chrono::milliseconds call{2'000};
};

// Used by one thread at a time. After an error of a call the connection is of no more use.
class ValkeyConnection {
 public:
  // Connects, with the password and the database of the address; to the server that one of its sentinels names, if it has
  // some. Errors of Store's calls.
  static Result<std::unique_ptr<ValkeyConnection>> open(const ValkeyAddress& address, const ValkeyLimits& limits);
  ~ValkeyConnection();
  ValkeyConnection(const ValkeyConnection&) = delete;
  ValkeyConnection& operator=(const ValkeyConnection&) = delete;

  // Sends all commands and returns their replies, which together have at most max_bytes; errors that the server replies
  // are among them. wait: what the commands ask the server to wait, beyond the limit for each call. kUnavailable; kInvalid
  // for what is not Valkey's protocol, or too large.
  Result<std::vector<ValkeyReply>> call(std::span<const ValkeyCommand> commands, std::size_t max_bytes,
                                        std::chrono::milliseconds wait = {});

 private:
  struct Tls;
  using Time = std::chrono::steady_clock::time_point;
  explicit ValkeyConnection(const ValkeyLimits& limits);
  Status connect(const ValkeyAddress& address);
  Status start_tls(const ValkeyAddress& address);
  Status greet(const ValkeyAddress& address);
  static Result<std::unique_ptr<ValkeyConnection>> open_one(const ValkeyAddress& address, const ValkeyLimits& limits);
  static Result<HostAndPort> ask_sentinels(const ValkeyAddress& address, const ValkeyLimits& limits);
  Status send();
  Result<ValkeyReply> receive(std::size_t& bytes_left, Time until);
  Status read_some(std::size_t& bytes_left, Time until);
  std::unexpected<Error> broken(std::string_view what) const;

  const ValkeyLimits limits_;
  std::string name_;  // of the server, for messages
  std::unique_ptr<Tls> tls_;
  std::unique_ptr<redisContext, void (*)(redisContext*)> context_{nullptr, redisFree};
};

// What the server replied instead of a result, as an error.
Error error_of_reply(const redisReply& reply);

}  // namespace celslm
