#include "serve/cloud/shared_contexts.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>
#include <vector>

#include "core/json.h"
#include "core/printable.h"
#include "net/access/key_file.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr Duration kKept = std::chrono::hours(24 * 7);
constexpr std::size_t kMaxHeadBytes = 1024;  // of a registration: name and signature
constexpr std::size_t kMaxRefusalsLogged = 100;
constexpr JsonLimits kLimits{.depth = 2, .values = 16};

// What is signed. The hash has all of it, each with its length.
Bytes message_of(std::string_view what, const ContextHandle& handle, std::string_view name, std::string_view tenant) {
  Hasher hasher;
  hasher.update_field(what).update_field(handle.hex()).update_field(name).update_field(tenant);
  const std::string out = "celslm fleet: " + hasher.finish().hex();
  const ByteView bytes = as_bytes(out);
  return Bytes(bytes.begin(), bytes.end());
}

Status check_signature(const PublicKey& key, ByteView message, std::string_view digits) {
  Signature signature{};
  CELSLM_CHECK_OK(from_hex(digits, signature));
  if (!verify(key, message, signature)) return fail(ErrorKind::kMismatch, "the fleet's key has not signed it");
  return {};
}

std::string any_revision() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

}  // namespace

// A line of JSON, then the text.
std::string encode_registration(const RegisteredContext& context, const SigningKey& key) {
  const Signature signature = key.sign(message_of("register", context.info.handle, context.info.name, context.info.tenant));
  nlohmann::json head = {{"name", context.info.name}, {"signature", to_hex(signature)}};
  if (!context.info.tenant.empty()) head["tenant"] = context.info.tenant;
  return dump_json(head) + "\n" + context.text;
}

Result<RegisteredContext> parse_registration(std::string_view value, const ContextHandle& handle, const PublicKey& key) {
  const std::size_t end = value.substr(0, kMaxHeadBytes).find('\n');
  if (end == std::string_view::npos) return fail(ErrorKind::kInvalid, "it does not begin with a line of JSON");
  CELSLM_TRY(const json head, parse_object(value.substr(0, end), kLimits));
  const JsonFields fields(head);
  RegisteredContext out;
  CELSLM_TRY(const auto name, fields.text("name", kMaxContextNameBytes));
  CELSLM_TRY(const std::string signature, fields.required_text("signature", 2 * Signature().size()));
  CELSLM_TRY(const auto tenant, fields.text("tenant", kMaxKeyNameBytes));
  if (!is_key_name(tenant.value_or(""))) return fields.expected("tenant", "letters, digits and -_.@");
  out.info = {.handle = handle, .name = name.value_or(""), .tenant = tenant.value_or("")};
  CELSLM_CHECK_OK(check_signature(key, message_of("register", handle, out.info.name, out.info.tenant), signature));
  out.text = value.substr(end + 1);
  out.info.bytes = out.text.size();
  if (context_handle(out.text, out.info.tenant) != handle) return fail(ErrorKind::kMismatch, "its text is another one");
  return out;
}

std::string encode_removal(const ContextHandle& handle, const SigningKey& key) {
  return handle.hex() + " " + to_hex(key.sign(message_of("remove", handle, "", "")));
}

Result<ContextHandle> parse_removal(std::string_view value, const PublicKey& key) {
  const std::size_t space = value.find(' ');
  if (space == std::string_view::npos) return fail(ErrorKind::kInvalid, "it is no handle and signature");
  CELSLM_TRY(const ContextHandle handle, Hash256::from_hex(value.substr(0, space)));
  CELSLM_CHECK_OK(check_signature(key, message_of("remove", handle, "", ""), value.substr(space + 1)));
  return handle;
}

Status SharedContexts::exchange(Store& store, const FleetKeys& keys) {
  collect_changes();
  const std::vector<std::string> revision_key{keys.contexts_revision()};
  CELSLM_TRY(auto revisions, store.get_all(revision_key, 64));
  std::string revision = revisions.at(0).value_or("");
  if (revision.empty()) told_.clear();  // it lost everything, or has never had anything
  const bool is_same = !revision.empty() && revision == learned_ && told_ == registry_.revision();
  if (is_same && to_add_.empty() && to_remove_.empty()) return keep_alive(store, keys);
  CELSLM_TRY(const Handles there, read_contexts(store, keys));
  CELSLM_TRY(Handles removed, read_removed(store, keys));
  collect_all(there, removed);
  CELSLM_TRY(const bool changed, tell(store, keys, removed));
  for (const ContextHandle& handle : to_add_) removed.erase(handle);  // registered again, and not told yet
  CELSLM_TRY(const bool complete, learn(store, keys, there, removed));
  if (changed || revision.empty()) {
    revision = any_revision();
    CELSLM_CHECK_OK(store.set(keys.contexts_revision(), revision, kKept));
    return {};  // what another cloud wrote meanwhile is read at the next beat
  }
  learned_ = complete ? revision : "";
  return {};
}

Result<SharedContexts::Handles> SharedContexts::read_contexts(Store& store, const FleetKeys& keys) {
  CELSLM_TRY(const auto values, store.sample(keys.contexts(), kMaxContexts));
  Handles out;
  for (const std::string& digits : values) {
    if (const auto handle = Hash256::from_hex(digits)) out.insert(*handle);
  }
  return out;
}

Result<SharedContexts::Handles> SharedContexts::read_removed(Store& store, const FleetKeys& keys) {
  CELSLM_TRY(const auto values, store.sample(keys.removed_contexts(), kMaxRemovals));
  Handles out;
  for (const std::string& value : values) {
    const auto handle = parse_removal(value, key_.public_key());
    if (!handle) {
      refuse("a removal", handle.error());
      continue;
    }
    out.insert(*handle);
  }
  return out;
}

// What changed here since the last time becomes what is to be told.
void SharedContexts::collect_changes() {
  if (told_.empty()) return;  // see collect_all()
  const ContextList changes = registry_.changes_since(told_);
  if (changes.complete()) return told_.clear();
  for (const ContextInfo& info : changes.added) {
    if (added_here_.contains(info.handle)) continue;
    to_add_.insert(info.handle);
    to_remove_.erase(info.handle);
  }
  for (const ContextHandle& handle : changes.removed) {
    if (removed_here_.contains(handle)) continue;
    to_remove_.insert(handle);
    to_add_.erase(handle);
  }
  collected(changes);
}

// The same at the beginning, and for a store that lost everything: what it does not have.
void SharedContexts::collect_all(const Handles& there, const Handles& removed) {
  if (!told_.empty()) return;
  const ContextList all = registry_.changes_since("");
  for (const ContextInfo& info : all.added) {
    if (!there.contains(info.handle) && !removed.contains(info.handle) && !removed_.contains(info.handle))
      to_add_.insert(info.handle);
  }
  for (const ContextHandle& handle : removed_) {
    if (!removed.contains(handle) && !to_add_.contains(handle)) to_remove_.insert(handle);
  }
  collected(all);
}

void SharedContexts::collected(const ContextList& changes) {
  added_here_.clear();
  removed_here_.clear();
  told_ = changes.revision;
}

// Whether the store was changed. What there was no time for stays to be told. `removed` stays what the store has.
Result<bool> SharedContexts::tell(Store& store, const FleetKeys& keys, Handles& removed) {
  std::size_t texts = 0;
  std::size_t bytes = 0;
  while (!to_remove_.empty() && texts < kMaxTexts) {
    CELSLM_CHECK_OK(tell_removed(store, keys, *to_remove_.begin()));
    removed.insert(*to_remove_.begin());
    to_remove_.erase(to_remove_.begin());
    ++texts;
  }
  while (!to_add_.empty() && texts < kMaxTexts && bytes < kMaxBytes) {
    CELSLM_TRY(const std::size_t told, tell_added(store, keys, *to_add_.begin()));
    removed.erase(*to_add_.begin());
    to_add_.erase(to_add_.begin());
    bytes += told;
    ++texts;
  }
  return texts > 0;
}

// The bytes written.
Result<std::size_t> SharedContexts::tell_added(Store& store, const FleetKeys& keys, const ContextHandle& handle) {
  const auto context = registry_.find(handle);
  if (!context) return 0;  // removed meanwhile, or damaged
  const std::string value = encode_registration(*context, key_);
  if (told_bytes_ + value.size() > kMaxToldBytes) {
    refuse("further texts of this cloud", {ErrorKind::kOverloaded, "it has written 1 GiB there: they stay here"});
    return 0;
  }
  const std::string removal = encode_removal(handle, key_);
  CELSLM_CHECK_OK(store.discard(keys.removed_contexts(), std::span(&removal, 1)));
  CELSLM_CHECK_OK(store.set(keys.context(handle.hex()), value, kKept));
  CELSLM_CHECK_OK(store.add(keys.contexts(), handle.hex(), kKept));
  told_bytes_ += value.size();
  return value.size();
}

Status SharedContexts::tell_removed(Store& store, const FleetKeys& keys, const ContextHandle& handle) {
  const std::string digits = handle.hex();
  CELSLM_CHECK_OK(store.add(keys.removed_contexts(), encode_removal(handle, key_), kKept));
  CELSLM_CHECK_OK(store.discard(keys.contexts(), std::span(&digits, 1)));
  return store.remove(keys.context(digits));
}

// What is in the store and not here. Whether that was all of it.
Result<bool> SharedContexts::learn(Store& store, const FleetKeys& keys, const Handles& there, const Handles& removed) {
  remove_here(removed);
  std::size_t texts = 0;
  std::size_t bytes = 0;
  for (const ContextHandle& handle : there) {
    if (removed.contains(handle) || to_remove_.contains(handle) || removed_.contains(handle)) continue;
    if (registry_.contains(handle) || refused_.contains(handle.hex())) continue;
    if (texts >= kMaxTexts || bytes >= kMaxBytes) return false;
    const std::vector<std::string> key{keys.context(handle.hex())};
    CELSLM_TRY(const auto values, store.get_all(key, kMaxContextBytes + kMaxHeadBytes));
    if (!values.at(0)) continue;
    ++texts;
    bytes += values[0]->size();
    const auto context = parse_registration(*values[0], handle, key_.public_key());
    const auto put = context ? registry_.put(context->text, context->info.name, context->info.tenant)
                             : Result<ContextInfo>(std::unexpected(context.error()));
    if (!put) {
      refuse(handle.hex(), put.error());
      continue;
    }
    added_here_.insert(handle);
    log_->info("the context {} was registered at another cloud of the fleet", handle.hex().substr(0, 12));
  }
  return true;
}

void SharedContexts::remove_here(const Handles& removed) {
  // One that stands in the store as removed no longer was registered again.
  removed_ = removed;
  removed_.insert(to_remove_.begin(), to_remove_.end());
  for (const ContextHandle& handle : removed) {
    if (!registry_.contains(handle) || !registry_.remove(handle)) continue;
    removed_here_.insert(handle);
    log_->info("the context {} was removed at another cloud of the fleet", handle.hex().substr(0, 12));
  }
}

// A text whose time is over, or that the store has evicted, is written again.
Status SharedContexts::keep_alive(Store& store, const FleetKeys& keys) {
  constexpr int kAtOnce = 4;
  CELSLM_CHECK_OK(store.extend(keys.contexts_revision(), kKept));
  if (to_keep_.empty()) {
    for (const ContextInfo& info : registry_.list()) to_keep_.insert(info.handle);
  }
  for (int i = 0; i < kAtOnce && !to_keep_.empty(); ++i) {
    const ContextHandle handle = *to_keep_.begin();
    to_keep_.erase(to_keep_.begin());
    if (!registry_.contains(handle)) continue;
    CELSLM_TRY(const bool there, store.extend(keys.context(handle.hex()), kKept));
    if (!there) to_add_.insert(handle);
  }
  CELSLM_CHECK_OK(store.extend(keys.removed_contexts(), kKept));
  return store.extend(keys.contexts(), kKept).transform([](bool) {});
}

void SharedContexts::refuse(const std::string& what, const Error& why) {
  if (refused_.size() < kMaxRefusalsLogged && refused_.insert(what).second)
    log_->warn("a context is not shared through the directory: {}: {}", printable(what, 64), printable(why.message));
}

}  // namespace celslm
