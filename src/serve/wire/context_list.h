// A cloud's list of contexts, or what changed of it since an edge read it last: the bodies of GET /v1/contexts.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "kv/pack/pack.h"
#include "serve/wire/protocol.h"

namespace celslm {

inline constexpr std::size_t kMaxRevisionBytes = 64;      // it goes back to the cloud in a path
inline constexpr std::chrono::seconds kMaxListWait{300};  // for which a cloud holds a request at most

struct ContextList {
  std::string revision;                // names this state of the list; empty: the cloud has no revisions
  std::string since;                   // not empty: `added` and `removed` are what changed since that revision
  std::size_t n_contexts = 0;          // of the complete list
  std::vector<ContextInfo> added;      // all there are, where `since` is empty; also those that changed
  std::vector<Hash256> on_device;      // models whose KV the cloud computes with Arithmetic::kDevice
  std::vector<ContextHandle> removed;  // may name some that never were in the list of `since`
  bool complete() const { return since.empty(); }

  // Of the packs that the cloud writes.
  std::uint16_t pack_version = kPackVersion;
};

nlohmann::json to_json(const ContextList& list);
// kInvalid, naming the field, for another shape than the documented one, for a revision that could not be sent back, and for
// changes that contradict themselves.
Result<ContextList> context_list_from(const nlohmann::json& json);

}  // namespace celslm
