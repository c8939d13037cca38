// Renders a report as Markdown tables and as JSON.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "align/judge/report.h"

namespace celslm {
namespace {

using Json = nlohmann::json;

std::string cell(const std::optional<double>& metric) {
  return metric ? fmt::format("{:.3f}", *metric) : "-";
}

std::string text_table(const std::vector<ConditionMetrics>& metrics) {
  std::string out =
      "| KV | divergence from native, nats | from the large model | perplexity | greedy as native "
      "|\n|---|---|---|---|---|\n";
  for (const ConditionMetrics& f : metrics) {
    out += fmt::format("| {} | {} | {} | {} | {} |\n", to_string(f.condition), cell(f.kl), cell(f.kl_large),
                       cell(f.perplexity), cell(f.greedy));
  }
  return out;
}

std::string question_table(const std::vector<ConditionMetrics>& metrics) {
  std::string out = "| KV | right |";
  std::string rule = "|---|---|";
  for (const auto& [steps, share] : metrics.front().right_by_steps) {
    out += fmt::format(" {} step{} |", steps, steps == 1 ? "" : "s");
    rule += "---|";
  }
  out += " perplexity of right replies | greedy as native |\n" + rule + "---|---|\n";
  for (const ConditionMetrics& f : metrics) {
    out += fmt::format("| {} | {} |", to_string(f.condition), cell(f.right));
    for (const auto& [steps, share] : f.right_by_steps) out += fmt::format(" {} |", cell(share));
    out += fmt::format(" {} | {} |\n", cell(f.perplexity), cell(f.greedy));
  }
  return out;
}

std::string layer_table(const Report& report) {
  std::string out = "| layer | KV | R2 of K | R2 of V | attention-output cosine |\n|---|---|---|---|---|\n";
  for (std::size_t layer = 0; layer < report.layers.size(); ++layer) {
    for (const KvVariant t : kKvVariants) {
      const VariantFit& fit = report.fits[static_cast<std::size_t>(t)];
      out += fmt::format("| {} | {} | {:.4f} | {:.4f} | {:.4f} |\n", layer, to_string(t), fit.k[layer].r2(),
                         fit.v[layer].r2(), fit.rows > 0.0 ? fit.cosine[layer] / fit.rows : 0.0);
    }
  }
  return out;
}

// The keys that bench/judge.py documents.
Json json_of(const Observation& o) {
  Json out{{"document", o.document},
           {"kv", to_string(o.condition)},
           {"question", o.question},
           {"positions", o.positions},
           {"kl", o.kl},
           {"kl_large", nullptr},
           {"surprise", o.nll},
           {"greedy", o.greedy_matches},
           {"greedy_of", o.native_tokens}};
  if (o.kl_large) out["kl_large"] = *o.kl_large;
  if (o.condition.kind == Condition::Kind::kVariant) out["split"] = o.condition.split;
  if (o.question) out.update({{"steps", o.steps}, {"right", o.right}});
  return out;
}

Json json_of(const PlaneMap& plane) {
  return {{"sources", plane.sources}, {"same_head", plane.same_head}, {"calibration_r2", plane.held_out_r2}};
}

}  // namespace

std::string to_text(const Report& report) {
  std::string out =
      fmt::format("map {}{}, {} held-out documents, {:.0f} tokens of context; means\n", report.map.hex().substr(0, 12),
                  report.fused ? " (fused)" : "", report.n_documents, report.n_tokens);
  out += "\n" + layer_table(report);
  if (!report.texts.empty()) out += "\nplain text, the 64 tokens after a context:\n" + text_table(report.texts);
  if (!report.questions.empty()) out += "\nquestions:\n" + question_table(report.questions);
  return out;
}

Json to_json(const Report& report) {
  Json out{{"map", report.map.hex()},
           {"fused", report.fused},
           {"documents", report.n_documents},
           {"context_tokens", report.n_tokens},
           {"cka", {{"k", report.cka_k}, {"v", report.cka_v}}}};
  for (const Observation& o : report.observations) out["observations"].push_back(json_of(o));
  for (std::size_t layer = 0; layer < report.layers.size(); ++layer) {
    Json one{{"k", json_of(report.layers[layer].k)}, {"v", json_of(report.layers[layer].v)}};
    for (const KvVariant t : kKvVariants) {
      const VariantFit& fit = report.fits[static_cast<std::size_t>(t)];
      one[to_string(t)] = {{"r2_k", fit.k[layer].r2()},
                           {"r2_v", fit.v[layer].r2()},
                           {"cosine", fit.rows > 0.0 ? fit.cosine[layer] / fit.rows : 0.0}};
    }
    out["layers"].push_back(std::move(one));
  }
  return out;
}

}  // namespace celslm
