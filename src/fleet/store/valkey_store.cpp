#include "fleet/store/valkey_store.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace celslm {
namespace {

constexpr std::size_t kMaxMemberBytes = 256;  // that a member of a set is expected to have at most
constexpr std::size_t kReplyOverhead = 64;    // of an element of a reply

// SET ... if the key is free or already the owner's.
constexpr const char* kHold = R"(
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1)";

constexpr const char* kRelease = R"(
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0)";

std::string in_milliseconds(Duration time) {
  return std::to_string(std::max<std::int64_t>(1, std::chrono::ceil<std::chrono::milliseconds>(time).count()));
}

bool is_read_only(const ValkeyReply& reply) {
  return reply->type == REDIS_REPLY_ERROR && std::string_view(reply->str, reply->len).starts_with("READONLY");
}

// The first of [[id, [field, value, ...]], ...]. One of another shape is there all the same, without a value: its taker is
// to do away with it.
std::optional<Store::Entry> first_entry(const redisReply& list) {
  if (list.type != REDIS_REPLY_ARRAY || list.elements == 0) return std::nullopt;
  const redisReply& entry = *list.element[0];
  if (entry.type != REDIS_REPLY_ARRAY || entry.elements != 2 || entry.element[0]->type != REDIS_REPLY_STRING)
    return std::nullopt;
  Store::Entry out{.id = std::string(entry.element[0]->str, entry.element[0]->len)};
  const redisReply& fields = *entry.element[1];
  const bool fine = fields.type == REDIS_REPLY_ARRAY && fields.elements == 2 &&
                    fields.element[1]->type == REDIS_REPLY_STRING && fields.element[1]->len <= Store::kMaxEntryBytes;
  if (fine) out.value.assign(fields.element[1]->str, fields.element[1]->len);
  return out;
}

std::unexpected<Error> unexpected_type(const char* command, const redisReply& reply) {
  return fail(ErrorKind::kInvalid, "the directory's server answered {} with a reply of type {}", command, reply.type);
}

}  // namespace

ValkeyStore::ValkeyStore(ValkeyAddress address, const ValkeyLimits& limits)
    : address_(std::move(address)), limits_(limits) {}

Result<std::vector<ValkeyReply>> ValkeyStore::call(std::span<const ValkeyCommand> commands, std::size_t max_bytes) {
  const bool kept = connection_ != nullptr;
  if (!kept) {
    CELSLM_TRY(connection_, ValkeyConnection::open(address_, limits_));
  }
  auto replies = connection_->call(commands, max_bytes);
  if (replies) {
    // A server that has become a replica: the next call asks where the main one is.
    if (std::ranges::any_of(*replies, is_read_only)) connection_.reset();
    return replies;
  }
  connection_.reset();
  // A kept connection may have ended long ago, with the server's last restart. All commands may be repeated.
  if (kept && replies.error().kind == ErrorKind::kUnavailable) return call(commands, max_bytes);
  return replies;
}

Result<ValkeyReply> ValkeyStore::call(ValkeyCommand command, std::size_t max_bytes) {
  CELSLM_TRY(auto replies, call(std::span(&command, 1), max_bytes));
  if (replies.front()->type == REDIS_REPLY_ERROR) return std::unexpected(error_of_reply(*replies.front()));
  return std::move(replies.front());
}

Result<bool> ValkeyStore::yes_or_no(ValkeyCommand command) {
  const char* const name = command.front() == "EVAL" ? "a script" : "a command";
  CELSLM_TRY(const ValkeyReply reply, call(std::move(command)));
  if (reply->type != REDIS_REPLY_INTEGER) return unexpected_type(name, *reply);
  return reply->integer != 0;
}

// GETRANGE instead of MGET: a value that somebody made large is not sent in full.
Result<std::vector<std::optional<std::string>>> ValkeyStore::get_all(std::span<const std::string> keys,
                                                                     std::size_t max_bytes) {
  std::vector<std::optional<std::string>> out;
  if (keys.empty()) return out;
  std::vector<ValkeyCommand> commands;
  for (const std::string& key : keys) commands.push_back({"GETRANGE", key, "0", std::to_string(max_bytes)});
  CELSLM_TRY(const auto replies, call(commands, keys.size() * (max_bytes + 1 + kReplyOverhead + kSmallReply / 64)));
  for (const ValkeyReply& reply : replies) {
    if (reply->type == REDIS_REPLY_ERROR && error_of_reply(*reply).kind != ErrorKind::kInvalid)
      return std::unexpected(error_of_reply(*reply));
    const bool there = reply->type == REDIS_REPLY_STRING && reply->len > 0;
    out.push_back(there ? std::optional(std::string(reply->str, reply->len)) : std::nullopt);
  }
  return out;
}

Status ValkeyStore::set(const std::string& key, const std::string& value, Duration ttl) {
  return call({"SET", key, value, "PX", in_milliseconds(ttl)}).transform([](const auto&) {});
}

Result<bool> ValkeyStore::extend(const std::string& key, Duration ttl) {
  return yes_or_no({"PEXPIRE", key, in_milliseconds(ttl)});
}

Status ValkeyStore::remove(const std::string& key) {
  return call({"DEL", key}).transform([](const auto&) {});
}

Result<bool> ValkeyStore::hold(const std::string& key, const std::string& owner, Duration ttl) {
  return yes_or_no({"EVAL", kHold, "1", key, owner, in_milliseconds(ttl)});
}

Status ValkeyStore::release(const std::string& key, const std::string& owner) {
  return call({"EVAL", kRelease, "1", key, owner}).transform([](const auto&) {});
}

Status ValkeyStore::add(const std::string& set, const std::string& member, Duration ttl) {
  CELSLM_CHECK_OK(call({"SADD", set, member}));
  return extend(set, ttl).transform([](bool) {});
}

Status ValkeyStore::discard(const std::string& set, std::span<const std::string> members) {
  if (members.empty()) return {};
  ValkeyCommand command{"SREM", set};
  command.append_range(members);
  return call(std::move(command)).transform([](const auto&) {});
}

Result<std::vector<std::string>> ValkeyStore::sample(const std::string& set, std::size_t most) {
  CELSLM_TRY(const ValkeyReply reply,
             call({"SRANDMEMBER", set, std::to_string(most)}, most * (kMaxMemberBytes + kReplyOverhead) + kSmallReply));
  if (reply->type != REDIS_REPLY_ARRAY) return unexpected_type("SRANDMEMBER", *reply);
  std::vector<std::string> out;
  for (std::size_t i = 0; i < reply->elements; ++i) {
    const redisReply& member = *reply->element[i];
    if (member.type == REDIS_REPLY_STRING) out.emplace_back(member.str, member.len);
  }
  return out;
}

Result<ValkeyReply> ValkeyStore::call_group(const std::string& stream, const std::string& group,
                                            const ValkeyCommand& command) {
  CELSLM_TRY(auto replies, call(std::span(&command, 1), kSmallReply));
  const redisReply& first = *replies.front();
  if (first.type != REDIS_REPLY_ERROR) return std::move(replies.front());
  if (!std::string_view(first.str, first.len).starts_with("NOGROUP")) return std::unexpected(error_of_reply(first));
  const ValkeyCommand create{"XGROUP", "CREATE", stream, group, "0", "MKSTREAM"};
  CELSLM_TRY(const auto created, call(std::span(&create, 1), kSmallReply));  // another may have been faster
  return call(command);
}

Status ValkeyStore::append(const std::string& stream, const std::string& value, std::size_t most, Duration ttl) {
  CELSLM_CHECK_OK(call({"XADD", stream, "MAXLEN", "~", std::to_string(most), "*", "v", value}));
  return extend(stream, ttl).transform([](bool) {});
}

// [[stream, [entry]]]
Result<std::optional<Store::Entry>> ValkeyStore::take(const std::string& stream, const std::string& group,
                                                      const std::string& consumer) {
  CELSLM_TRY(const ValkeyReply reply,
             call_group(stream, group, {"XREADGROUP", "GROUP", group, consumer, "COUNT", "1", "STREAMS", stream, ">"}));
  if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0) return std::nullopt;
  const redisReply& of_stream = *reply->element[0];
  if (of_stream.type != REDIS_REPLY_ARRAY || of_stream.elements < 2) return unexpected_type("XREADGROUP", of_stream);
  return first_entry(*of_stream.element[1]);
}

// [next, [entry], ...]
Result<std::optional<Store::Entry>> ValkeyStore::take_over(const std::string& stream, const std::string& group,
                                                           const std::string& consumer, Duration silence) {
  CELSLM_TRY(
      const ValkeyReply reply,
      call_group(stream, group, {"XAUTOCLAIM", stream, group, consumer, in_milliseconds(silence), "0", "COUNT", "1"}));
  if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2) return unexpected_type("XAUTOCLAIM", *reply);
  auto entry = first_entry(*reply->element[1]);
  if (entry) {
    CELSLM_TRY(entry->deliveries, deliveries(stream, group, entry->id));
  }
  return entry;
}

// [[id, consumer, idle, deliveries]]
Result<std::int64_t> ValkeyStore::deliveries(const std::string& stream, const std::string& group, const std::string& id) {
  CELSLM_TRY(const ValkeyReply reply, call({"XPENDING", stream, group, id, id, "1"}));
  if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0) return 1;
  const redisReply& of_entry = *reply->element[0];
  const bool fine =
      of_entry.type == REDIS_REPLY_ARRAY && of_entry.elements == 4 && of_entry.element[3]->type == REDIS_REPLY_INTEGER;
  if (!fine) return unexpected_type("XPENDING", of_entry);
  return of_entry.element[3]->integer;
}

Status ValkeyStore::keep(const std::string& stream, const std::string& group, const std::string& consumer,
                         const std::string& id) {
  return call({"XCLAIM", stream, group, consumer, "0", id, "JUSTID"}).transform([](const auto&) {});
}

Status ValkeyStore::done(const std::string& stream, const std::string& group, const std::string& id) {
  CELSLM_CHECK_OK(call({"XACK", stream, group, id}));
  return call({"XDEL", stream, id}).transform([](const auto&) {});
}

}  // namespace celslm
