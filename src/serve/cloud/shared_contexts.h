// The registrations of a fleet's clouds: what is registered at one is registered at all, and likewise what is removed.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>

#include "core/log.h"
#include "core/result.h"
#include "fleet/directory/keys.h"
#include "fleet/store/store.h"
#include "kv/pack/signing.h"
#include "serve/cloud/context_registry.h"

namespace celslm {

// A registration as it stands in the store, signed with the key that all clouds of the fleet share: whoever else can write
// there can register nothing, and remove nothing. What was once signed can be written again, though: a text that was removed
// may come back, and one that was registered again may go.
std::string encode_registration(const RegisteredContext& context, const SigningKey& key);
// kInvalid; kMismatch for another text than the handle's, or one that the key has not signed.
Result<RegisteredContext> parse_registration(std::string_view value, const ContextHandle& handle, const PublicKey& key);
std::string encode_removal(const ContextHandle& handle, const SigningKey& key);
Result<ContextHandle> parse_removal(std::string_view value, const PublicKey& key);

// Brings a registry and the store to the same contexts, a part at each beat. Used by the member's thread alone; registry and
// key must outlive it.
//
// A store that lost everything gets it again from the clouds, also the removals that they know of since their start. What is
// in a registry that was just opened and was removed elsewhere meanwhile is removed here, too.
class SharedContexts {
 public:
  // At one beat so many contexts are written, and so many read, or as many as have these bytes.
  static constexpr std::size_t kMaxTexts = 256;
  static constexpr std::size_t kMaxBytes = 16U << 20;
  static constexpr std::size_t kMaxRemovals = 10'000;
  // That this process writes until it ends: a store's memory is for leases, too.
  static constexpr std::uint64_t kMaxToldBytes = 1ULL << 30;

  SharedContexts(ContextRegistry& registry, const SigningKey& key, Log log)
      : registry_(registry), key_(key), log_(std::move(log)) {}

  // As Member::Share.
  Status exchange(Store& store, const FleetKeys& keys);

 private:
  using Handles = std::set<ContextHandle>;
  Result<Handles> read_contexts(Store& store, const FleetKeys& keys);
  Result<Handles> read_removed(Store& store, const FleetKeys& keys);
  void collect_changes();
  void collect_all(const Handles& there, const Handles& removed);
  void collected(const ContextList& changes);
  Result<bool> tell(Store& store, const FleetKeys& keys, Handles& removed);
  Result<std::size_t> tell_added(Store& store, const FleetKeys& keys, const ContextHandle& handle);
  Status tell_removed(Store& store, const FleetKeys& keys, const ContextHandle& handle);
  Result<bool> learn(Store& store, const FleetKeys& keys, const Handles& there, const Handles& removed);
  void remove_here(const Handles& removed);
  Status keep_alive(Store& store, const FleetKeys& keys);
  void refuse(const std::string& what, const Error& why);

  ContextRegistry& registry_;
  const SigningKey& key_;
  const Log log_;
  std::string told_;     // the registry's revision up to which changes were collected; empty: none
  std::string learned_;  // the store's revision that the registry has; empty: none
  Handles to_add_;       // in the store
  Handles to_remove_;    // from it
  Handles added_here_;   // by this, since told_: nobody is to be told of it
  Handles removed_here_;
  Handles removed_;  // of the fleet, as far as this process knows
  Handles to_keep_;  // whose texts' time in the store is to be extended
  std::uint64_t told_bytes_ = 0;
  std::set<std::string> refused_;  // what the log knows of
};

}  // namespace celslm
