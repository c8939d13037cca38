// Renders a report as Markdown tables, as JSON and as an SVG heat map.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "align/judge/report.h"

namespace celslm {
namespace {

using Json = nlohmann::json;

std::string cell(const std::optional<Interval>& i) {
  return i ? fmt::format("{:.3f} ({:.3f} to {:.3f})", i->value, i->low, i->high) : "-";
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

Json json_of(const std::optional<Interval>& i) {
  return i ? Json{{"value", i->value}, {"low", i->low}, {"high", i->high}} : Json();
}

Json json_of(const std::vector<ConditionMetrics>& metrics) {
  Json out = Json::array();
  for (const ConditionMetrics& f : metrics) {
    Json one{{"kv", to_string(f.condition)},
             {"kl", json_of(f.kl)},
             {"kl_large", json_of(f.kl_large)},
             {"perplexity", json_of(f.perplexity)},
             {"greedy", json_of(f.greedy)}};
    if (f.condition.kind == Condition::Kind::kVariant) one["split"] = f.condition.split;
    if (f.right) one["right"] = json_of(f.right);
    for (const auto& [steps, share] : f.right_by_steps) one["right_by_steps"][std::to_string(steps)] = json_of(share);
    out.push_back(std::move(one));
  }
  return out;
}

Json json_of(const PlaneMap& plane) {
  return {{"sources", plane.sources}, {"same_head", plane.same_head}, {"calibration_r2", plane.held_out_r2}};
}

constexpr int kCell = 34;
constexpr int kMargin = 60;

// White to dark blue.
std::string colour(double share) {
  const double s = std::clamp(share, 0.0, 1.0);
  return fmt::format("rgb({:.0f},{:.0f},{:.0f})", 255 - 235 * s, 255 - 190 * s, 255 - 115 * s);
}

std::string panel(const char* title, const std::vector<std::vector<double>>& cka, const std::vector<LayerMap>& layers,
                  bool key, int left) {
  std::string out = fmt::format("<text x=\"{}\" y=\"24\" font-weight=\"bold\">{}</text>\n", left + kMargin, title);
  for (std::size_t target = 0; target < cka.size(); ++target) {
    const int y = kMargin + static_cast<int>(target) * kCell;
    out += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n", left + kMargin - 6, y + kCell / 2 + 4,
                       target);
    const std::vector<int>& used = (key ? layers[target].k : layers[target].v).sources;
    for (std::size_t source = 0; source < cka[target].size(); ++source) {
      const int x = left + kMargin + static_cast<int>(source) * kCell;
      const double value = cka[target][source];
      const bool framed = std::ranges::contains(used, static_cast<int>(source));
      out +=
          fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\" stroke=\"{}\" stroke-width=\"{}\"/>",
                      x + 1, y + 1, kCell - 2, kCell - 2, colour(value), framed ? "#d9480f" : "none", framed ? 2 : 0);
      out += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" font-size=\"10\" fill=\"{}\">{:.2f}</text>\n",
                         x + kCell / 2, y + kCell / 2 + 4, value > 0.5 ? "white" : "black", value);
    }
  }
  for (std::size_t source = 0; source < cka.front().size(); ++source) {
    out += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                       left + kMargin + static_cast<int>(source) * kCell + kCell / 2, kMargin - 8, source);
  }
  return out;
}

}  // namespace

std::string to_text(const Report& report) {
  std::string out =
      fmt::format("map {}{}, {} held-out documents, {:.0f} tokens of context; 95 % intervals over documents\n",
                  report.map.hex().substr(0, 12), report.fused ? " (fused)" : "", report.n_documents, report.n_tokens);
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
           {"texts", json_of(report.texts)},
           {"questions", json_of(report.questions)},
           {"cka", {{"k", report.cka_k}, {"v", report.cka_v}}}};
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

std::string heat_map_svg(const Report& report) {
  if (report.cka_k.empty()) return "<svg xmlns=\"http://www.w3.org/2000/svg\"/>\n";
  const int wide = 2 * kMargin + report.source.n_layers * kCell;
  const int high = 2 * kMargin + report.target.n_layers * kCell;
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
      2 * wide, high);
  out += panel("linear CKA of K", report.cka_k, report.layers, true, 0);
  out += panel("linear CKA of V", report.cka_v, report.layers, false, wide);
  out += fmt::format(
      "<text x=\"{}\" y=\"{}\">rows: target layers, columns: source layers, framed: used by the map</text>\n</svg>\n",
      kMargin, high - 20);
  return out;
}

}  // namespace celslm
