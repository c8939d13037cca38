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

inline constexpr std::size_t kMaxContextBytes = 4U << 20;  // a longer text would keep a cloud busy for hours
inline constexpr std::size_t kMaxContexts = 100'000;       // entries of a list from a peer
inline constexpr std::size_t kMaxHostedModels = 256;       // likewise
inline constexpr std::size_t kMaxListBytes = 32U << 20;    // of a JSON response from a cloud

// Studied KV of a context that a cloud offers for one model.
struct StudiedOffer {
  Hash256 model;
  ContextStudy study;
  bool operator==(const StudiedOffer&) const = default;
};

struct ContextInfo {
  ContextHandle handle;
  std::string name;
  std::uint64_t bytes = 0;
  std::vector<StudiedOffer> studied;  // at most one for each model
  std::string tenant;                 // whose it is; empty: the default tenant's
};

// A layer map that a cloud applies: KV of a larger model in a small one's shape.
struct HostedMap {
  Hash256 id;
  int split = 0;       // the first mapped layer; those below are exact
  bool fused = false;  // with a learned correction
  bool operator==(const HostedMap&) const = default;
};

// A tuning that a cloud applies, and what its gate measured (docs/tuning-format.md).
struct HostedTuning {
  Hash256 id;
  std::string gate;  // JSON
  bool operator==(const HostedTuning&) const = default;
};

// A model whose packs a cloud offers; listed once more for each map to it, and for each tuning of it.
struct HostedModel {
  std::string name;
  int n_ctx = 0;
  ModelFingerprint fingerprint;
  std::optional<HostedMap> map;
  std::optional<HostedTuning> tuning;
};

// What besides the model made a pack's KV: ids, at most one of them not zero. None: the model's own KV.
struct MadeWith {
  Hash256 map;
  Hash256 tuning;
  Hash256 study;
  bool none() const { return *this == MadeWith{}; }
  auto operator<=>(const MadeWith&) const = default;
};
MadeWith made_with(const HostedModel& model);
MadeWith made_with(const PackIdentity& identity);
std::string describe(const MadeWith& made_with);  // "map ab12…"; empty for none

// Whether libllama runs this model, so that packs of it hold states, and the only codec is "opaque".
inline bool has_states(const ModelFingerprint& model) {
  return model.arithmetic == Arithmetic::kLibllama;
}

// Turns an identity into that of KV made by this map, or by the tuning of this id.
void set_map(PackIdentity& identity, const HostedMap& map);
void set_tuning(PackIdentity& identity, const Hash256& tuning);

// "/v1/packs/<handle>/<model id>/<codec>/<part>"; with the parameter "map=<id>", "tuning=<id>" or "study=<id>" for KV made
// with one
std::string pack_path(const ContextHandle& handle, const Hash256& model, std::string_view codec, std::string_view part,
                      const MadeWith& made_with = {});

nlohmann::json to_json(const ContextInfo& info);
nlohmann::json to_json(const HostedTuning& tuning);
nlohmann::json to_json(const HostedModel& model);
// kInvalid with the field's name if it does not have the documented shape. Names become printable().
Result<ContextInfo> context_info_from(const nlohmann::json& json);
Result<HostedModel> hosted_model_from(const nlohmann::json& json);

// The body of POST /v1/contexts; only the fields' types are checked.
struct Registration {
  std::string text;  // plain, see context_text.h
  std::string name;  // may be empty
};
Result<Registration> registration_from(std::string_view body);

HttpResponse json_response(const nlohmann::json& body);

}  // namespace celslm
