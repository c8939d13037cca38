// What cloud and edge agree on: paths, JSON shapes, limits. docs/http-protocol.md is the specification.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/hash.h"
#include "core/result.h"
#include "kv/pack/context_handle.h"
#include "kv/pack/pack.h"
#include "model/config.h"
#include "net/http_types.h"

namespace celslm {

inline constexpr std::size_t kMaxContextBytes = 4U << 20;  // a registered text that would keep every cloud busy for hours
inline constexpr std::size_t kMaxContexts = 100'000;       // a list that never ends
inline constexpr std::size_t kMaxHostedModels = 256;       // the same
inline constexpr std::size_t kMaxListBytes = 32U << 20;    // of a JSON answer from a cloud

struct ContextInfo {
  ContextHandle handle;
  std::string name;
  std::uint64_t bytes = 0;
};

// A layer map that a cloud applies: KV of a larger model in a small one's shape.
struct HostedMap {
  Hash256 id;
  int split = 0;       // the first layer it makes; those below are exact
  bool fused = false;  // with a learned correction
  bool operator==(const HostedMap&) const = default;
};

// A model whose packs a cloud has; once more for each map by which it has them.
struct HostedModel {
  std::string name;
  int n_ctx = 0;
  ModelFingerprint fingerprint;
  std::optional<HostedMap> map;
};

// Makes an identity that of KV made by this map.
void set_map(PackIdentity& identity, const HostedMap& map);

// "/v1/packs/<handle>/<model id>/<codec>/<part>"; with "map=<id>" among its parameters where KV is asked for that was mapped
std::string pack_path(const ContextHandle& handle, const Hash256& model, std::string_view codec, std::string_view part,
                      const std::optional<HostedMap>& map = {});

nlohmann::json to_json(const ContextInfo& info);
nlohmann::json to_json(const HostedModel& model);
// kInvalid naming the field for anything that has not the documented shape.
Result<ContextInfo> context_info_from(const nlohmann::json& json);
Result<HostedModel> hosted_model_from(const nlohmann::json& json);

// What POST /v1/contexts brings; not checked but for the fields' types.
struct Registration {
  std::string text;
  std::string name;  // may be empty
};
Result<Registration> registration_from(std::string_view body);

HttpResponse json_response(const nlohmann::json& body);

}  // namespace celslm
