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

constexpr double kWorthLoss = 0.95;   // a codec with more loss must load in less than this share of the time
constexpr std::int64_t kVersion = 2;  // of the file

// Nothing where there is none: programs write different sets of figures.
std::optional<double> figure(const JsonFields& line, const char* name) {
  constexpr double kAny = std::numeric_limits<double>::max();
  return line.number(name, -kAny, kAny).value_or(std::nullopt);
}

// The codec may lose no answers: false where even the upper end of the interval of the change is below zero.
bool keeps_answers(const JsonFields& line) {
  constexpr std::size_t kEnds = 2;
  const auto interval = line.list("accuracy_change_interval", kEnds);
  if (!interval) return false;
  if (*interval == nullptr) return true;  // there were no questions
  return (*interval)->size() == kEnds && (**interval)[1].is_number() && (**interval)[1].get<double>() >= 0.0;
}

// What the codec loses: nothing if it packs f16 exactly; none where the line does not tell, or where it loses answers.
std::optional<double> loss_of(const Codec& codec, const JsonFields& line) {
  if (codec.exact_for()) return codec.exact_for() == KvType::kF16 ? std::optional(0.0) : std::nullopt;
  const auto loss = figure(line, "loss");
  return loss && *loss >= 0.0 && keeps_answers(line) ? loss : std::nullopt;
}

// The rung that a line of measurements describes; none for codecs of other programs, and for f16, which is there already.
std::optional<CodecRung> rung_of(const JsonFields& line) {
  const auto name = line.required_text("name");
  const auto codec = name ? find_codec(*name) : std::unexpected(name.error());
  const double bits = figure(line, "bits_per_value").value_or(0.0);
  if (!codec || (*codec)->id() == CodecId::kF16 || bits <= 0.0) return std::nullopt;
  const auto loss = loss_of(**codec, line);
  if (!loss) return std::nullopt;
  return CodecRung{.codec = *codec,
                   .bits_per_value = bits,
                   .loss = *loss,
                   .decode_bytes_per_s = std::max(0.0, figure(line, "decode_mb_s").value_or(0.0) * 1e6)};
}

// The lines of the file.
Result<const json*> lines_of(const json& file) {
  constexpr std::size_t kMaxLines = 100'000;
  const JsonFields fields(file);
  auto lines = fields.required_list("codecs", kMaxLines);
  if (!lines) return fail(ErrorKind::kInvalid, "this is not what 'bench codec --json' writes: {}", lines.error().message);
  const auto version = fields.integer("version", 0, std::numeric_limits<std::int64_t>::max());
  if (!version || version->value_or(1) != kVersion)
    return fail(ErrorKind::kInvalid,
                "expected 'version' {}, which measures codecs by their loss; this file is of another version: "
                "'./dev bench codec --model GGUF --json FILE' makes a new one",
                kVersion);
  return lines;
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

std::string loss_in_words(const CodecRung& rung) {
  return fmt::format("its loss is {:.1f} times the model's own rounding", rung.loss);
}

}  // namespace

CodecLadder CodecLadder::only(const Codec& codec) {
  CodecLadder out;
  out.rungs_.push_back({.codec = &codec});
  return out;
}

CodecLadder CodecLadder::exact() {
  constexpr double kTypicalBits = 13.3;
  CodecLadder out = only(**find_codec(CodecId::kF16));
  out.rungs_.push_back({.codec = *find_codec(CodecId::kF16z), .bits_per_value = kTypicalBits});
  return out;
}

Result<CodecLadder> CodecLadder::from_measurements(std::string_view text, const Hash256& model, double max_loss) {
  const auto file = parse_object(text);
  if (!file) return fail(ErrorKind::kInvalid, "this is not what 'bench codec --json' writes: {}", file.error().message);
  CELSLM_TRY(const json* lines, lines_of(*file));
  CodecLadder out = only(**find_codec(CodecId::kF16));
  bool any = false;
  for (const json& item : *lines) {
    const auto line = JsonFields::of(item, "codecs[]");
    if (!line || line->required_text("model_id") != model.hex()) continue;
    any = true;
    const auto rung = rung_of(*line);
    if (rung && rung->loss <= max_loss) out.rungs_.push_back(*rung);
  }
  if (!any) return fail(ErrorKind::kNotFound, "it measures no codec on this model, whose id is {}", model.hex());
  std::ranges::stable_sort(out.rungs_, std::ranges::less(), &CodecRung::loss);
  return out;
}

CodecChoice CodecLadder::choose(const LoadOutlook& outlook) const {
  const CodecRung& first = rungs_.front();
  if (rungs_.size() == 1) return {first.codec, "the only one that may be used"};
  if (!outlook.link.rate_bytes_per_s.known()) {
    const CodecRung& smallest = *std::ranges::min_element(rungs_, {}, &CodecRung::bits_per_value);
    return {smallest.codec, fmt::format("the fewest bits ({:.1f} a value), for the link is not measured yet; {}",
                                        smallest.bits_per_value, loss_in_words(smallest))};
  }
  const CodecRung* best = &first;
  double best_s = load_s(first, outlook);
  const double first_s = best_s;
  for (const CodecRung& rung : rungs_) {
    const double s = load_s(rung, outlook);
    if (s < best_s * kWorthLoss) {
      best = &rung;
      best_s = s;
    }
  }
  const double mbit = outlook.link.rate_bytes_per_s.mean() * 8e-6;
  if (best == &first)
    return {best->codec, fmt::format("no other would load it in less than {:.2f} s at {:.0f} Mbit/s", best_s, mbit)};
  return {best->codec, fmt::format("here in {:.2f} s at {:.0f} Mbit/s, {} in {:.2f} s; {}", best_s, mbit,
                                   first.codec->name(), first_s, loss_in_words(*best))};
}

}  // namespace celslm
