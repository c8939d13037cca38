// Strings and numbers of a schema.
#include <fmt/format.h>

#include <cmath>

#include "model/grammar/number_range.h"
#include "model/grammar/pattern.h"
#include "model/grammar/schema_compiler.h"
#include "model/grammar/string_formats.h"

namespace celslm {

Result<std::string> SchemaCompiler::string(const Place& place) {
  const Json& schema = place.schema;
  const bool has_length = schema.contains("minLength") || schema.contains("maxLength");
  if ((schema.contains("pattern") ? 1 : 0) + (schema.contains("format") ? 1 : 0) + (has_length ? 1 : 0) > 1) {
    return fail(ErrorKind::kInvalid, "'{}': this keyword is not supported beside another one about the string's contents",
                place.name(schema.contains("pattern") ? "pattern" : "format"));
  }
  for (const char* keyword : {"pattern", "format"}) {
    if (!schema.contains(keyword)) continue;
    if (!schema[keyword].is_string()) return fail(ErrorKind::kInvalid, "'{}' must be a string", place.name(keyword));
    const auto& given = schema[keyword].get_ref<const std::string&>();
    auto contents = keyword == std::string_view("format") ? format_grammar(given) : pattern_grammar(given);
    if (!contents) return wrap(contents.error(), fmt::format("'{}'", place.name(keyword)));
    return rule(fmt::format(R"("\"" {} "\"")", *contents));
  }
  if (!has_length) return "json-string";
  CELSLM_TRY(const long least, count_at(place, "minLength", 0));
  CELSLM_TRY(const long most, count_at(place, "maxLength", -1));
  if (most >= 0 && most < least) return fail(ErrorKind::kInvalid, "'{}' is below minLength", place.name("maxLength"));
  return rule(fmt::format(R"("\"" {} "\"")", gbnf_repeat("json-char", least, most)));
}

// A bound, and whether it is exclusive. Where both forms are given, the narrower one counts.
Result<std::optional<SchemaCompiler::Bound>> SchemaCompiler::bound(const Place& place, bool low) const {
  std::optional<Bound> out;
  for (const bool exclusive : {false, true}) {
    const char* keyword = low ? (exclusive ? "exclusiveMinimum" : "minimum") : (exclusive ? "exclusiveMaximum" : "maximum");
    const auto found = place.schema.find(keyword);
    if (found == place.schema.end()) continue;
    if (!found->is_number()) return fail(ErrorKind::kInvalid, "'{}' must be a number", place.name(keyword));
    const Bound next{.value = found->get<double>(), .exclusive = exclusive, .keyword = place.name(keyword)};
    const bool narrower = !out || (low ? next.value >= out->value : next.value <= out->value);
    if (narrower) out = next;
  }
  // Beyond what is ever written: no bound at all.
  constexpr auto kMost = static_cast<double>(kMostInteger);
  if (out && (low ? out->value < -kMost : out->value > kMost)) return std::nullopt;
  if (out && std::abs(out->value) > kMost) return fail(ErrorKind::kInvalid, "'{}' is beyond {}", out->keyword, kMostInteger);
  return out;
}

Result<std::string> SchemaCompiler::number(const Place& place, bool whole) {
  if (place.schema.contains("multipleOf") && !(whole && place.schema["multipleOf"] == Json(1)))
    return fail(ErrorKind::kInvalid, "'{}': this keyword is not supported", place.name("multipleOf"));
  CELSLM_TRY(const auto low, bound(place, true));
  CELSLM_TRY(const auto high, bound(place, false));
  if (!low && !high) return whole ? "json-integer" : "json-number";
  NumberBounds bounds;
  for (const bool is_low : {true, false}) {
    const auto& given = is_low ? low : high;
    if (!given) continue;
    const double value = given->value;
    if (!whole && value != std::floor(value))
      return fail(ErrorKind::kInvalid, "'{}' is {}; of numbers that need not be whole, only whole bounds are supported",
                  given->keyword, value);
    auto rounded = static_cast<std::int64_t>(is_low ? std::ceil(value) : std::floor(value));
    if (whole && given->exclusive && static_cast<double>(rounded) == value) rounded += is_low ? 1 : -1;
    (is_low ? bounds.low : bounds.high) = rounded;
    (is_low ? bounds.above_low : bounds.below_high) = given->exclusive;
  }
  const std::string out = whole ? integers_between(bounds.low, bounds.high) : decimals_between(bounds);
  if (out.empty()) return fail(ErrorKind::kInvalid, "'{}': no number is between the bounds", (low ? low : high)->keyword);
  return rule(out);
}

}  // namespace celslm
