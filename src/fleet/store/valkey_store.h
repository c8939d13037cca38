// A Store in a Valkey server.
#pragma once

#include <memory>

#include "fleet/store/store.h"
#include "fleet/store/valkey_address.h"
#include "fleet/store/valkey_connection.h"

namespace celslm {

// Connects at the first call, and again at the first one after a failure: how often is up to the caller. Needs no
// persistence, no modules and no particular eviction policy of the server; docs/fleet.md lists the commands.
class ValkeyStore final : public Store {
 public:
  explicit ValkeyStore(ValkeyAddress address, const ValkeyLimits& limits = {});

  Result<std::vector<std::optional<std::string>>> get_all(std::span<const std::string> keys, std::size_t max_bytes) override;
  Status set(const std::string& key, const std::string& value, Duration ttl) override;
  Result<bool> extend(const std::string& key, Duration ttl) override;
  Status remove(const std::string& key) override;
  Result<bool> hold(const std::string& key, const std::string& owner, Duration ttl) override;
  Status release(const std::string& key, const std::string& owner) override;
  Status add(const std::string& set, const std::string& member, Duration ttl) override;
  Status discard(const std::string& set, std::span<const std::string> members) override;
  Result<std::vector<std::string>> sample(const std::string& set, std::size_t most) override;
  Status append(const std::string& stream, const std::string& value, std::size_t most, Duration ttl) override;
  Result<std::optional<Entry>> take(const std::string& stream, const std::string& group,
                                    const std::string& consumer) override;
  Result<std::optional<Entry>> take_over(const std::string& stream, const std::string& group, const std::string& consumer,
                                         Duration silence) override;
  Status keep(const std::string& stream, const std::string& group, const std::string& consumer,
              const std::string& id) override;
  Status done(const std::string& stream, const std::string& group, const std::string& id) override;

 private:
  Result<std::vector<ValkeyReply>> call(std::span<const ValkeyCommand> commands, std::size_t max_bytes);
  // One command with a small reply; an error that the server replies is an error of the call.
  Result<ValkeyReply> call(ValkeyCommand command, std::size_t max_bytes = kSmallReply);
  Result<bool> yes_or_no(ValkeyCommand command);
  // A command about a group, which is created first if there is none yet.
  Result<ValkeyReply> call_group(const std::string& stream, const std::string& group, const ValkeyCommand& command);
  Result<std::int64_t> deliveries(const std::string& stream, const std::string& group, const std::string& id);

  static constexpr std::size_t kSmallReply = 64U << 10;
  const ValkeyAddress address_;
  const ValkeyLimits limits_;
  std::unique_ptr<ValkeyConnection> connection_;  // null: not connected
};

}  // namespace celslm
