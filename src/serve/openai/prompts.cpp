#include "serve/openai/prompts.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "serve/openai/openai.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxId = std::numeric_limits<int>::max();

Result<Prompt> prompt_of(const JsonFields& fields, const json& value, const std::string& name) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array() || value.empty()) return fields.expected(name, "a string or an array of token ids");
  std::vector<Token> out;
  out.reserve(value.size());
  for (const json& id : value) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() > kMaxId)
      return fields.expected(fmt::format("{}[{}]", name, out.size()), "a token id, as the rest of the prompt");
    out.push_back(static_cast<Token>(id.get<std::uint64_t>()));
  }
  return out;
}

std::optional<Token> token_of(const std::string& name) {
  Token out = 0;
  const char* end = name.data() + name.size();
  const auto [at, code] = std::from_chars(name.data(), end, out);
  return code == std::errc() && at == end && out >= 0 ? std::optional(out) : std::nullopt;
}

}  // namespace

Result<std::vector<Prompt>> prompts_of(const JsonFields& fields, std::string_view name) {
  const json* value = fields.find(name);
  const std::string field(name);
  if (value == nullptr) return fields.expected(name, "a string, an array of token ids, or an array of these");
  const bool several = value->is_array() && !value->empty() && (value->front().is_string() || value->front().is_array());
  std::vector<Prompt> out;
  if (!several) {
    CELSLM_TRY(Prompt prompt, prompt_of(fields, *value, field));
    out.push_back(std::move(prompt));
    return out;
  }
  if (value->size() > kMaxTexts) return fields.expected(name, fmt::format("an array of at most {} prompts", kMaxTexts));
  for (const json& item : *value) {
    CELSLM_TRY(Prompt prompt, prompt_of(fields, item, fmt::format("{}[{}]", field, out.size())));
    out.push_back(std::move(prompt));
  }
  return out;
}

Result<std::vector<std::pair<Token, float>>> logit_bias_of(const JsonFields& fields) {
  const json* value = fields.find("logit_bias");
  if (value == nullptr) return {};
  const std::string what = fmt::format("an object of at most {} token ids, each with a number from -100 to 100", kMaxBiases);
  if (!value->is_object() || value->size() > kMaxBiases) return fields.expected("logit_bias", what);
  std::vector<std::pair<Token, float>> out;
  for (const auto& [name, bias] : value->items()) {
    const auto token = token_of(name);
    if (!token || !bias.is_number() || !(std::abs(bias.get<double>()) <= 100)) return fields.expected("logit_bias", what);
    out.emplace_back(*token, bias.get<float>());
  }
  return out;
}

}  // namespace celslm
