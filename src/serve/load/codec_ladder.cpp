#include "serve/load/codec_ladder.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/json.h"
#include "plan/forecast.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr double kWorthDamage = 0.95;  // a codec that agrees less must load in less than this share of the time

// Nothing where there is none: programs write different sets of figures.
std::optional<double> figure(const JsonFields& line, const char* name) {
  constexpr double kAny = std::numeric_limits<double>::max();
  return line.number(name, -kAny, kAny).value_or(std::nullopt);
}

// The rung that a line of measurements describes; none for codecs of other programs.
std::optional<CodecRung> rung_of(const JsonFields& line) {
  const auto name = line.required_text("name");
  const auto codec = name ? find_codec(*name) : std::unexpected(name.error());
  const double bits = figure(line, "bits_per_value").value_or(0.0);
  const auto on_answers = figure(line, "greedy64");
  const auto agreement = on_answers ? on_answers : figure(line, "greedy64_text");
  if (!codec || (*codec)->exact_for() || bits <= 0.0 || !agreement) return std::nullopt;
  return CodecRung{.codec = *codec,
                   .bits_per_value = bits,
                   .agreement = *agreement,
                   .decode_bytes_per_s = std::max(0.0, figure(line, "decode_mb_s").value_or(0.0) * 1e6)};
}

// Seconds until the context is complete, fetched and computed at once; decoding keeps up with the link or limits it.
double load_s(const CodecRung& rung, const LoadOutlook& outlook) {
  const double bytes = static_cast<double>(outlook.values) * rung.bits_per_value / 8.0;
  const std::vector<std::uint64_t> layers(static_cast<std::size_t>(outlook.n_layers),
                                          static_cast<std::uint64_t>(bytes / outlook.n_layers));
  SourceRate source{outlook.link.rate_bytes_per_s.mean(), outlook.link.latency_s.mean()};
  if (rung.decode_bytes_per_s > 0.0)
    source.rate_bytes_per_s = std::min(source.rate_bytes_per_s, rung.decode_bytes_per_s * rung.bits_per_value / 16.0);
  return forecast({.missing_bytes = layers,
                   .compute_limit = outlook.layer_s > 0.0 ? outlook.max_compute_layers : 0,
                   .layer_s = outlook.layer_s,
                   .sources = {&source, 1}})
      .seconds;
}

}  // namespace

CodecLadder CodecLadder::only(const Codec& codec) {
  CodecLadder out;
  out.rungs_.push_back({.codec = &codec});
  return out;
}

Result<CodecLadder> CodecLadder::from_measurements(std::string_view text, const Hash256& model, double least_agreement) {
  constexpr std::size_t kMaxLines = 100'000;
  const auto file = parse_object(text);
  const auto lines = file ? JsonFields(*file).required_list("codecs", kMaxLines) : std::unexpected(file.error());
  if (!lines) return fail(ErrorKind::kInvalid, "this is not what 'bench codec --json' writes: {}", lines.error().message);
  CodecLadder out = only(**find_codec(CodecId::kF16));
  bool any = false;
  for (const json& item : **lines) {
    const auto line = JsonFields::of(item, "codecs[]");
    if (!line || line->required_text("model_id") != model.hex()) continue;
    any = true;
    const auto rung = rung_of(*line);
    if (rung && rung->agreement >= least_agreement) out.rungs_.push_back(*rung);
  }
  if (!any) return fail(ErrorKind::kNotFound, "it measures no codec on this model, whose id is {}", model.hex());
  std::ranges::stable_sort(out.rungs_, std::ranges::greater(), &CodecRung::agreement);
  return out;
}

CodecChoice CodecLadder::choose(const LoadOutlook& outlook) const {
  const CodecRung& first = rungs_.front();
  if (rungs_.size() == 1) return {first.codec, "the only one that may be used"};
  if (!outlook.link.rate_bytes_per_s.known()) {
    const CodecRung& smallest = *std::ranges::min_element(rungs_, {}, &CodecRung::bits_per_value);
    return {smallest.codec,
            fmt::format("the fewest bits ({:.1f} a value), for the link is not measured yet; greedy agreement {:.3f}",
                        smallest.bits_per_value, smallest.agreement)};
  }
  const CodecRung* best = &first;
  double best_s = load_s(first, outlook);
  const double first_s = best_s;
  for (const CodecRung& rung : rungs_) {
    const double s = load_s(rung, outlook);
    if (s < best_s * kWorthDamage) {
      best = &rung;
      best_s = s;
    }
  }
  const double mbit = outlook.link.rate_bytes_per_s.mean() * 8e-6;
  if (best == &first)
    return {best->codec, fmt::format("no other would load it in less than {:.2f} s at {:.0f} Mbit/s", best_s, mbit)};
  return {best->codec, fmt::format("here in {:.2f} s at {:.0f} Mbit/s, {} in {:.2f} s; greedy agreement {:.3f}", best_s,
                                   mbit, first.codec->name(), first_s, best->agreement)};
}

}  // namespace celslm
