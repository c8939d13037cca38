#include "serve/route/node_figures.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/json.h"
#include "core/printable.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr std::int64_t kMaxRequests = 1'000'000;
constexpr double kMaxRate = 1e9;  // tokens a second
constexpr double kMaxLoadS = 1e6;

Result<std::vector<ContextHandle>> held_of(const JsonFields& fields) {
  CELSLM_TRY(const json* list, fields.required_list("held", kMaxHeldContexts));
  std::vector<ContextHandle> out;
  for (const json& item : *list) {
    const auto handle = ContextHandle::from_hex(item.is_string() ? item.get_ref<const std::string&>() : "");
    if (!handle) return fields.expected("held", "an array of contexts' handles: 64 hex digits each");
    out.push_back(*handle);
  }
  return out;
}

}  // namespace

json to_json(const NodeFigures& figures) {
  json held = json::array();
  for (const ContextHandle& handle : figures.held) held.push_back(handle.hex());
  return {{"model", {{"id", figures.model.hex()}, {"name", figures.model_name}}},
          {"accepts", figures.accepts},
          {"running", figures.running},
          {"queued", figures.queued},
          {"places", figures.places},
          {"prefill_tokens_per_s", figures.prefill_tokens_per_s},
          {"decode_tokens_per_s", figures.decode_tokens_per_s},
          {"context_load_s", figures.context_load_s},
          {"held", std::move(held)}};
}

Result<NodeFigures> node_figures_from(std::string_view body) {
  CELSLM_TRY(const json object, parse_object(body));
  const JsonFields fields(object);
  NodeFigures out;
  CELSLM_TRY(const JsonFields model, fields.required_object("model"));
  CELSLM_TRY(out.model, model.required_hash("id"));
  CELSLM_TRY(const std::string name, model.required_text("name", 1024));
  out.model_name = printable(name);
  CELSLM_TRY(out.accepts, fields.required_flag("accepts"));
  CELSLM_TRY(const auto running, fields.required_integer("running", 0, kMaxRequests));
  CELSLM_TRY(const auto queued, fields.required_integer("queued", 0, kMaxRequests));
  CELSLM_TRY(const auto places, fields.required_integer("places", 1, kMaxRequests));
  out.running = static_cast<int>(running);
  out.queued = static_cast<int>(queued);
  out.places = static_cast<int>(places);
  CELSLM_TRY(const auto prefill, fields.number("prefill_tokens_per_s", 0, kMaxRate));
  CELSLM_TRY(const auto decode, fields.number("decode_tokens_per_s", 0, kMaxRate));
  out.prefill_tokens_per_s = prefill.value_or(0);
  out.decode_tokens_per_s = decode.value_or(0);
  CELSLM_TRY(const auto load, fields.number("context_load_s", 0, kMaxLoadS));
  out.context_load_s = load.value_or(0);
  CELSLM_TRY(out.held, held_of(fields));
  return out;
}

RouteCandidate candidate_of(const NodeFigures& figures, std::string id, RouteClass node) {
  return {.id = std::move(id),
          .node = node,
          .accepts = figures.accepts,
          .context_fetch_s = figures.context_load_s,
          .running = figures.running,
          .queued = figures.queued,
          .places = figures.places,
          .prefill_tokens_per_s = figures.prefill_tokens_per_s,
          .decode_tokens_per_s = figures.decode_tokens_per_s};
}

}  // namespace celslm
