#include "serve/edge/response_extension.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "serve/wire/errors.h"

namespace celslm {
namespace {

using nlohmann::json;

double round_ms(Duration d) {
  return std::round(milliseconds(d) * 1000.0) / 1000.0;
}

json layers_json(const GenerationRequest& request, const ResidentContext::Report& report) {
  json layers = json::array();
  for (const LayerOrigin& origin : report.layers) {
    if (request.context_was_resident) {
      layers.push_back({{"provenance", to_string(origin.provenance)}, {"source", to_string(Source::kMemory)}});
    } else {
      layers.push_back(layer_json(origin));
    }
  }
  return layers;
}

json load_json(const LoadReport& load, bool joined) {
  return {{"ms", load.took_ms},
          {"predicted_ms", load.predicted_ms > 0 ? json(load.predicted_ms) : json(nullptr)},
          {"hedged_bytes", joined ? 0 : load.hedged_bytes},
          {"joined", joined}};
}

}  // namespace

json layer_json(const LayerOrigin& origin) {
  json out = {
      {"provenance", to_string(origin.provenance)}, {"source", to_string(origin.source)}, {"ms", round_ms(origin.after)}};
  if (std::ranges::count_if(origin.blocks, [](int n) { return n > 0; }) < 2) return out;
  for (std::size_t i = 0; i < origin.blocks.size(); ++i) {
    if (origin.blocks[i] > 0) out["blocks"][to_string(static_cast<Source>(i))] = origin.blocks[i];
  }
  return out;
}

json response_extension(const GenerationRequest& request, const GenerationPiece& last, const std::string& engine,
                        const std::string& cloud_trouble) {
  const GenerationTimes& times = last.times;
  json out = {{"context", nullptr},
              {"engine", engine},
              {"ms",
               {{"queue", round_ms(times.queue)},
                {"context", round_ms(times.context)},
                {"prefill", round_ms(times.prefill)},
                {"first_token", round_ms(times.first_token)},
                {"decode", round_ms(times.decode)}}}};
  if (!request.context || last.left_context) {
    const std::string& note = request.why_no_context.empty() ? cloud_trouble : request.why_no_context;
    if (!note.empty()) out["note"] = without_paths(note);
    return out;
  }
  const ResidentContext::Report report = request.context->report();
  out["context"] = request.context->handle.hex();
  out["context_id"] = request.context->id.hex();
  out["context_tokens"] = request.context->tokens.size();
  out["matched_tokens"] = request.n_context();
  out["layers"] = layers_json(request, report);
  out["bytes"] = request.began_load ? report.bytes : 0;  // of each load in one answer only
  out["codec"] = report.codec;
  out["codec_reason"] = report.codec_reason;
  if (!report.note.empty()) out["note"] = without_paths(report.note);
  if (!request.context_was_resident) out["load"] = load_json(report.load, !request.began_load);
  return out;
}

}  // namespace celslm
