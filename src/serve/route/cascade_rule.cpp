#include "serve/route/cascade_rule.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "core/json.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr const char* kWeighted = "weighted";
constexpr const char* kBias = "bias";

struct Field {
  std::string_view name;
  double (*of)(const Confidence&);
};
constexpr std::array kFields{
    Field{"least_probability", [](const Confidence& c) { return c.least_probability; }},
    Field{"mean_probability", [](const Confidence& c) { return c.mean_probability; }},
    Field{"least_margin", [](const Confidence& c) { return c.least_margin; }},
    Field{"mean_margin", [](const Confidence& c) { return c.mean_margin; }},
    Field{"first_probability", [](const Confidence& c) { return c.first_probability; }},
    Field{"agreement", [](const Confidence& c) { return c.agreement.value_or(1); }},
    Field{"tokens", [](const Confidence& c) { return static_cast<double>(c.tokens); }},
};

const Field* find_field(std::string_view name) {
  const auto it = std::ranges::find(kFields, name, &Field::name);
  return it == kFields.end() ? nullptr : it;
}

Status read_weights(const JsonFields& fields, CascadeRule& rule) {
  const json* weights = fields.find("weights");
  const std::string what = "an object of numbers, each under the name of a measure or 'bias'";
  if (weights == nullptr || !weights->is_object()) return fields.expected("weights", what);
  for (const auto& [name, value] : weights->items()) {
    if (!value.is_number() || (name != kBias && find_field(name) == nullptr)) return fields.expected("weights", what);
    rule.weights[name] = value.get<double>();
  }
  return {};
}

}  // namespace

double CascadeRule::score(const Confidence& confidence) const {
  if (const Field* field = find_field(measure)) return field->of(confidence);
  double out = 0;
  for (const auto& [name, weight] : weights) {
    const Field* field = find_field(name);
    out += weight * (field == nullptr ? 1 : field->of(confidence));
  }
  return out;
}

Result<CascadeRule> cascade_rule_from(std::string_view text) {
  CELSLM_TRY(const json object, parse_object(text));
  const JsonFields fields(object);
  CascadeRule out;
  CELSLM_TRY(out.measure, fields.required_text("measure", 64));
  if (out.measure == kWeighted) {
    CELSLM_CHECK_OK(read_weights(fields, out));
  } else if (find_field(out.measure) == nullptr) {
    return fields.expected("measure",
                           "'least_probability', 'mean_probability', 'least_margin', 'mean_margin', "
                           "'first_probability', 'agreement' or 'weighted'");
  }
  const auto threshold = fields.number("threshold", -1e9, 1e9);
  if (!threshold) return std::unexpected(threshold.error());
  if (!*threshold) return fields.expected("threshold", "a number");
  out.threshold = **threshold;
  CELSLM_TRY(const auto share, fields.number("share", 0, 1));
  out.share = share.value_or(0);
  if (fields.find("model") != nullptr) {
    CELSLM_TRY(out.model, fields.required_hash("model"));
  }
  return out;
}

}  // namespace celslm
