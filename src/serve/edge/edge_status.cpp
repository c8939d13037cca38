#include "serve/edge/edge_status.h"

#include <nlohmann/json.hpp>

#include "serve/edge/response_extension.h"
#include "serve/wire/protocol.h"

namespace celslm {
namespace {

using nlohmann::json;

json layers_of(const ResidentContext& context, const ResidentContext::Report& report) {
  json out = json::array();
  for (int layer = 0; layer < context.n_layers(); ++layer)
    out.push_back(context.filled(layer) ? layer_json(report.layers[layer]) : json(nullptr));
  return out;
}

json held_context(const ResidentContext& context) {
  const ResidentContext::Report report = context.report();
  json out = {{"id", context.handle.hex()},
              {"tokens", context.tokens.size()},
              {"n_layers", context.n_layers()},
              {"ready", context.ready_layers()},
              {"layers", layers_of(context, report)},
              {"memory_bytes", context.segment->size_bytes()},
              {"bytes", report.bytes},
              {"codec", report.codec},
              {"codec_reason", report.codec_reason}};
  if (!report.note.empty()) out["note"] = report.note;
  return out;
}

}  // namespace

json edge_status(const EdgeStatusParts& parts) {
  json registered = json::array();
  const bool everything = parts.caller.all_tenants || parts.caller.is_operator;
  const auto visible = [&](const std::string& tenant) { return everything || parts.caller.sees(tenant); };
  std::vector<ContextInfo> known = parts.directory.list();
  std::erase_if(known, [&](const ContextInfo& info) { return !visible(info.tenant); });
  for (const ContextInfo& info : std::span(known).first(std::min(known.size(), kMaxStatusContexts)))
    registered.push_back(to_json(info));
  json held = json::array();
  std::uint64_t held_bytes = 0;
  for (const auto& context : parts.contexts.table().all()) {
    if (!visible(context->tenant)) continue;
    held.push_back(held_context(*context));
    held_bytes += context->segment->size_bytes();
  }
  return {{"node", "edge"},
          {"model",
           {{"name", parts.model_name},
            {"id", parts.model.fingerprint().id().hex()},
            {"n_layers", parts.model.config().n_layers},
            {"n_ctx", parts.model.config().n_ctx_train},
            {"engine", parts.model.engine_name()}}},
          {"requests", {{"running", parts.stats.running}, {"queued", parts.stats.queued}}},
          {"n_registered", known.size()},
          {"registered", std::move(registered)},
          {"held", std::move(held)},
          {"memory_bytes", everything ? parts.contexts.table().bytes() : held_bytes},
          {"budget_bytes", parts.contexts.table().budget_bytes()},
          {"cloud_url", parts.directory.cloud_url()},
          {"cloud_trouble", parts.directory.cloud_trouble()}};
}

}  // namespace celslm
