#include "serve/wire/protocol.h"

#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "core/json.h"
#include "core/printable.h"
#include "net/access/key_file.h"
#include "serve/wire/context_text.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxName = 1024;  // a name is shown to people and written to logs

constexpr std::int64_t kMaxInt = std::numeric_limits<std::int32_t>::max();

Result<std::uint32_t> u32_field(const JsonFields& fields, const char* name) {
  CELSLM_TRY(const auto value, fields.required_integer(name, 0, std::numeric_limits<std::uint32_t>::max()));
  return static_cast<std::uint32_t>(value);
}

Result<HostedMap> hosted_map_from(const JsonFields& fields) {
  HostedMap out;
  CELSLM_TRY(out.fused, fields.required_flag("fused"));
  CELSLM_TRY(out.id, fields.required_hash("id"));
  CELSLM_TRY(const auto split, fields.required_integer("split", 0, kMaxPackSplit));
  out.split = static_cast<int>(split);
  return out;
}

Result<HostedTuning> hosted_tuning_from(const JsonFields& fields) {
  HostedTuning out;
  CELSLM_TRY(out.id, fields.required_hash("id"));
  if (const json* gate = fields.find("gate")) out.gate = dump_json(*gate);
  return out;
}

Result<StudiedOffer> studied_offer_from(const json& object) {
  CELSLM_TRY(const JsonFields fields, JsonFields::of(object, "studied[]"));
  StudiedOffer out;
  CELSLM_TRY(out.model, fields.required_hash("model"));
  CELSLM_TRY(out.study.id, fields.required_hash("id"));
  CELSLM_TRY(const auto n_rows, fields.required_integer("n_rows", 1, kMaxPackTokens));
  out.study.n_rows = static_cast<int>(n_rows);
  return out;
}

// Bytes of each layer's recurrent state; absent where no layer has one.
Result<std::vector<std::uint32_t>> states_from(const JsonFields& fields) {
  std::vector<std::uint32_t> out;
  CELSLM_TRY(const json* states, fields.list("states", kMaxPackLayers));
  if (states == nullptr) return out;
  for (const json& bytes : *states) {
    if (!bytes.is_number_unsigned() || bytes.get<std::uint64_t>() > kMaxStateBytes)
      return fail(ErrorKind::kInvalid, "states[] has {}; expected numbers of bytes up to {}", dump_json(bytes),
                  kMaxStateBytes);
    out.push_back(bytes.get<std::uint32_t>());
  }
  return out;
}

Result<ModelFingerprint> fingerprint_from(const JsonFields& fields) {
  ModelFingerprint out;
  CELSLM_TRY(out.architecture, fields.required_text("architecture", kMaxName));
  CELSLM_TRY(out.n_layers, u32_field(fields, "n_layers"));
  CELSLM_TRY(out.n_kv_heads, u32_field(fields, "n_kv_heads"));
  CELSLM_TRY(out.head_dim, u32_field(fields, "head_dim"));
  CELSLM_TRY(out.states, states_from(fields));
  CELSLM_TRY(out.rope, fields.required_text("rope", kMaxName));
  CELSLM_TRY(out.weights, fields.required_hash("weights"));
  CELSLM_TRY(out.tokenizer, fields.required_hash("tokenizer"));
  CELSLM_TRY(const auto arithmetic, fields.integer("arithmetic", 1, UINT16_MAX));
  out.arithmetic = static_cast<Arithmetic>(arithmetic.value_or(1));
  return out;
}

}  // namespace

void set_map(PackIdentity& identity, const HostedMap& map) {
  identity.provenance = map.fused ? Provenance::kFused : Provenance::kMapped;
  identity.map = map.id;
  identity.split = map.split;
}

void set_tuning(PackIdentity& identity, const Hash256& tuning) {
  identity.provenance = Provenance::kTuned;
  identity.tuning = tuning;
}

MadeWith made_with(const HostedModel& model) {
  return {.map = model.map ? model.map->id : Hash256{}, .tuning = model.tuning ? model.tuning->id : Hash256{}};
}

MadeWith made_with(const PackIdentity& identity) {
  return {.map = identity.map, .tuning = identity.tuning, .study = identity.study};
}

std::string describe(const MadeWith& made_with) {
  if (made_with.map != Hash256{}) return "map " + made_with.map.hex();
  if (made_with.study != Hash256{}) return "study " + made_with.study.hex();
  return made_with.tuning != Hash256{} ? "tuning " + made_with.tuning.hex() : std::string();
}

std::string pack_path(const ContextHandle& handle, const Hash256& model, std::string_view codec, std::string_view part,
                      const MadeWith& made_with) {
  std::string path = fmt::format("/v1/packs/{}/{}/{}/{}", handle.hex(), model.hex(), codec, part);
  for (const auto& [name, id] :
       {std::pair("map", made_with.map), std::pair("tuning", made_with.tuning), std::pair("study", made_with.study)}) {
    if (id != Hash256{}) path += fmt::format("{}{}={}", path.contains('?') ? '&' : '?', name, id.hex());
  }
  return path;
}

json to_json(const ContextInfo& info) {
  json out{{"id", info.handle.hex()}, {"name", info.name}, {"bytes", info.bytes}};
  if (!info.tenant.empty()) out["tenant"] = info.tenant;
  for (const StudiedOffer& offer : info.studied)
    out["studied"].push_back({{"model", offer.model.hex()}, {"id", offer.study.id.hex()}, {"n_rows", offer.study.n_rows}});
  return out;
}

json to_json(const HostedTuning& tuning) {
  const auto gate = parse_object(tuning.gate);
  return {{"id", tuning.id.hex()}, {"gate", gate ? *gate : json()}};
}

json to_json(const HostedModel& model) {
  const ModelFingerprint& f = model.fingerprint;
  json out{{"id", f.id().hex()},
           {"name", model.name},
           {"n_ctx", model.n_ctx},
           {"engine", has_states(f) ? "libllama" : "celslm"},
           {"fingerprint",
            {{"architecture", f.architecture},
             {"n_layers", f.n_layers},
             {"n_kv_heads", f.n_kv_heads},
             {"head_dim", f.head_dim},
             {"rope", f.rope},
             {"weights", f.weights.hex()},
             {"tokenizer", f.tokenizer.hex()},
             {"arithmetic", static_cast<int>(f.arithmetic)}}}};
  if (!f.states.empty()) out["fingerprint"]["states"] = f.states;
  if (model.map) out["map"] = {{"id", model.map->id.hex()}, {"split", model.map->split}, {"fused", model.map->fused}};
  if (model.tuning) out["tuning"] = to_json(*model.tuning);
  return out;
}

Result<ContextInfo> context_info_from(const json& object) {
  CELSLM_TRY(const JsonFields fields, JsonFields::of(object, "context"));
  ContextInfo out;
  CELSLM_TRY(out.handle, fields.required_hash("id"));
  CELSLM_TRY(const std::string name, fields.required_text("name", kMaxName));
  out.name = printable(name);
  CELSLM_TRY(const auto bytes, fields.required_integer("bytes", 0, kMaxContextBytes));
  out.bytes = static_cast<std::uint64_t>(bytes);
  CELSLM_TRY(const auto tenant, fields.text("tenant", kMaxKeyNameBytes));
  out.tenant = tenant.value_or("");
  if (!is_key_name(out.tenant)) return fields.expected("tenant", "letters, digits and -_.@");
  CELSLM_TRY(const json* studied, fields.list("studied", kMaxHostedModels));
  if (studied == nullptr) return out;
  for (const json& offer : *studied) {
    CELSLM_TRY(out.studied.emplace_back(), studied_offer_from(offer));
  }
  return out;
}

Result<HostedModel> hosted_model_from(const json& object) {
  CELSLM_TRY(const JsonFields fields, JsonFields::of(object, "model"));
  HostedModel out;
  CELSLM_TRY(const std::string name, fields.required_text("name", kMaxName));
  out.name = printable(name);
  CELSLM_TRY(const auto n_ctx, fields.required_integer("n_ctx", 0, kMaxInt));
  out.n_ctx = static_cast<int>(n_ctx);
  CELSLM_TRY(const JsonFields fingerprint, fields.required_object("fingerprint"));
  CELSLM_TRY(out.fingerprint, fingerprint_from(fingerprint));
  CELSLM_TRY(const auto map, fields.object("map"));
  if (map) {
    CELSLM_TRY(out.map, hosted_map_from(*map));
  }
  CELSLM_TRY(const auto tuning, fields.object("tuning"));
  if (tuning) {
    CELSLM_TRY(out.tuning, hosted_tuning_from(*tuning));
  }
  return out;
}

Result<Registration> registration_from(std::string_view body) {
  CELSLM_TRY(const json object, parse_object(body));
  const JsonFields fields(object);
  Registration out;
  CELSLM_TRY(const std::string text, fields.required_text("text"));
  out.text = plain_context_text(text);
  CELSLM_TRY(const auto name, fields.text("name"));
  out.name = name.value_or("");
  return out;
}

HttpResponse json_response(const json& body) {
  return {.body = dump_json(body)};
}

}  // namespace celslm
