// Objects and arrays of a schema.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <ranges>

#include "model/grammar/key_exclusion.h"
#include "model/grammar/schema_compiler.h"

namespace celslm {
namespace {

constexpr std::string_view kComma = R"(json-ws "," json-ws)";

}  // namespace

Result<std::string> SchemaCompiler::object(const Place& place) {
  const Json& schema = place.schema;
  const bool named = schema.contains("properties") || schema.contains("required");
  const Json closed(false);
  const Json* additional = schema.contains("additionalProperties") ? &schema["additionalProperties"] : nullptr;
  if (additional == nullptr && !named) return std::string(GrammarBuilder::kAnyObject);
  const bool open = additional != nullptr && *additional != closed;
  CELSLM_TRY(const std::vector<Property> properties, properties_of(place, open ? additional : nullptr));
  std::string others;
  if (open) {
    CELSLM_TRY(others, other_members(place, *additional, properties));
  }
  CELSLM_TRY(const std::string inner, members(properties, others));
  return fmt::format(R"("{{" json-ws {} "}}")", inner);
}

// In the schema's order, then those that are only named as required.
Result<std::vector<SchemaCompiler::Property>> SchemaCompiler::properties_of(const Place& place, const Json* additional) {
  std::vector<std::string> required;
  const auto list = place.schema.find("required");
  if (list != place.schema.end() && !list->is_array())
    return fail(ErrorKind::kInvalid, "'{}' must be a list", place.name("required"));
  for (const Json& name : list == place.schema.end() ? Json::array() : *list) {
    if (!name.is_string()) return fail(ErrorKind::kInvalid, "'{}' must hold strings", place.name("required"));
    required.push_back(name.get<std::string>());
  }
  std::vector<Property> out;
  const auto given = place.schema.find("properties");
  if (given != place.schema.end()) {
    if (!given->is_object()) return fail(ErrorKind::kInvalid, "'{}' must be an object", place.name("properties"));
    const Place below = place.at(*given, "properties");
    for (const auto& [name, schema] : given->items()) {
      CELSLM_TRY(std::string pair, pair_of(below, name, schema));
      out.push_back({.name = name, .pair = std::move(pair), .required = std::ranges::contains(required, name)});
    }
  }
  for (const std::string& name : required) {
    if (std::ranges::contains(out, name, &Property::name)) continue;
    if (additional == nullptr)
      return fail(ErrorKind::kInvalid, "'{}' has '{}', which is no property", place.name("required"), name);
    CELSLM_TRY(std::string pair, pair_of(place, name, *additional));
    out.push_back({.name = name, .pair = std::move(pair), .required = true});
  }
  return out;
}

Result<std::string> SchemaCompiler::pair_of(const Place& place, const std::string& key, const Json& value) {
  CELSLM_TRY(const std::string accepted, visit(place.at(value, key)));
  const std::string literal = gbnf_literal(Json(key).dump(-1, ' ', false, Json::error_handler_t::replace));
  return rule(fmt::format(R"({} json-ws ":" json-ws {})", literal, accepted));
}

// Members whose names are not those of properties; escapes in such names are not accepted, since they could spell one.
Result<std::string> SchemaCompiler::other_members(const Place& place, const Json& additional,
                                                  std::span<const Property> properties) {
  CELSLM_TRY(const std::string accepted, visit(place.at(additional, "additionalProperties")));
  std::vector<std::string> names;
  for (const Property& property : properties) names.push_back(property.name);
  CELSLM_TRY(const std::string key, add_key_rules(builder_, name_, names));
  return rule(fmt::format(R"({} json-ws ":" json-ws {})", key, accepted));
}

// Up to the closing brace. A property that may be absent comes with the comma that belongs to it: the one behind it as long
// as nothing that must come has come, else the one before it.
Result<std::string> SchemaCompiler::members(std::span<const Property> properties, const std::string& others) {
  const std::string more_others = others.empty() ? "" : fmt::format("( {} {} )*", kComma, others);
  const auto first = std::ranges::find(properties, true, &Property::required);
  if (first != properties.end()) {
    std::vector<std::string> out;
    for (auto it = properties.begin(); it != first; ++it) out.push_back(fmt::format("( {} {} )?", it->pair, kComma));
    out.push_back(first->pair);
    for (auto it = first + 1; it != properties.end(); ++it)
      out.push_back(fmt::format("{} {} {} {}", it->required ? "" : "(", kComma, it->pair, it->required ? "" : ")?"));
    return fmt::format("{} {} json-ws", fmt::join(out, " "), more_others);
  }
  // Nothing must come: one alternative for each that may come first, each followed by what may come behind it.
  std::vector<std::string> out;
  if (!others.empty()) out.push_back(fmt::format("{} {}", others, more_others));
  std::string rest = more_others;
  for (const Property& property : properties | std::views::reverse) {
    out.push_back(fmt::format("{} {}", property.pair, rest));
    CELSLM_TRY(rest, rule(fmt::format("( {} {} )? {}", kComma, property.pair, rest)));
  }
  return out.empty() ? "" : fmt::format("( ( {} ) json-ws )?", fmt::join(out | std::views::reverse, " | "));
}

Result<std::string> SchemaCompiler::array(const Place& place) {
  CELSLM_TRY(const long least, count_at(place, "minItems", 0));
  CELSLM_TRY(const long most, count_at(place, "maxItems", -1));
  if (most >= 0 && most < least) return fail(ErrorKind::kInvalid, "'{}' is below minItems", place.name("maxItems"));
  const auto prefix = place.schema.find("prefixItems");
  if (prefix != place.schema.end() && !prefix->is_array())
    return fail(ErrorKind::kInvalid, "'{}' must be a list of schemas", place.name("prefixItems"));
  CELSLM_TRY(const std::string inner, items(place, prefix == place.schema.end() ? Json::array() : *prefix, least, most));
  return fmt::format(R"("[" json-ws {} "]")", inner);
}

// Up to the closing bracket. All of `prefix` is written, then what else may come.
Result<std::string> SchemaCompiler::items(const Place& place, const Json& prefix, long least, long most) {
  const auto n_prefix = static_cast<long>(prefix.size());
  const Json rest = place.schema.value("items", Json(n_prefix == 0));  // behind a prefix only where it is asked for
  if (most >= 0 && most < n_prefix)
    return fail(ErrorKind::kInvalid, "'{}' is below the number of prefixItems", place.name("maxItems"));
  std::vector<std::string> fixed;
  for (const Json& item : prefix) {
    CELSLM_TRY(fixed.emplace_back(), visit(place.at(item, fmt::format("prefixItems[{}]", fixed.size()))));
  }
  const bool ends = rest == Json(false) || most == n_prefix;
  if (ends && least > n_prefix) return fail(ErrorKind::kInvalid, "'{}' cannot be reached", place.name("minItems"));
  if (ends && fixed.empty()) return "";
  const std::string head = fmt::format("{}", fmt::join(fixed, fmt::format(" {} ", kComma)));
  if (ends) return head + " json-ws";
  CELSLM_TRY(const std::string item, visit(place.at(rest, "items")));
  const std::string more = fmt::format("( {} {} )", kComma, item);
  const auto behind = [&](long n) { return gbnf_repeat(more, std::max(least - n, 0L), most < 0 ? -1 : most - n); };
  if (!fixed.empty()) return fmt::format("{} {} json-ws", head, behind(n_prefix));
  return fmt::format("{} {} {} json-ws {}", least == 0 ? "(" : "", item, behind(1), least == 0 ? ")?" : "");
}

}  // namespace celslm
