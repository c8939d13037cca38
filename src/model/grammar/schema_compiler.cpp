#include "model/grammar/schema_compiler.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "model/grammar/grammar_limits.h"

namespace celslm {
namespace {

using Json = nlohmann::ordered_json;

// What restricts values, by the type that it is about.
constexpr std::array<std::pair<std::string_view, std::string_view>, 16> kTypedKeywords{{
    {"properties", "object"},
    {"required", "object"},
    {"additionalProperties", "object"},
    {"items", "array"},
    {"prefixItems", "array"},
    {"minItems", "array"},
    {"maxItems", "array"},
    {"minLength", "string"},
    {"maxLength", "string"},
    {"pattern", "string"},
    {"format", "string"},
    {"minimum", "number"},
    {"maximum", "number"},
    {"exclusiveMinimum", "number"},
    {"exclusiveMaximum", "number"},
    {"multipleOf", "number"},
}};
constexpr std::array<std::string_view, 9> kOtherKeywords{"$ref",  "type",  "enum",     "const",      "anyOf",
                                                         "oneOf", "allOf", "nullable", "uniqueItems"};
constexpr std::array<std::string_view, 17> kDescriptions{
    "$schema",     "$id",     "$comment",      "$defs",           "definitions",     "title",
    "description", "default", "examples",      "example",         "readOnly",        "writeOnly",
    "deprecated",  "strict",  "discriminator", "contentEncoding", "contentMediaType"};

bool only_describes(std::string_view keyword) {
  return std::ranges::contains(kDescriptions, keyword) || keyword.starts_with("x-");
}

std::string literal_of(const Json& value) {
  return gbnf_literal(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

std::string one_of(const std::vector<std::string>& alternatives) {
  return alternatives.size() == 1 ? alternatives.front() : fmt::format("( {} )", fmt::join(alternatives, " | "));
}

std::string_view type_of(const Json& value) {
  if (value.is_number_integer()) return "integer";
  if (value.is_number()) return "number";
  return value.is_null() ? "null" : value.type_name();  // the library's names of the others are the schema's
}

bool has_type(const Json& value, const std::vector<std::string>& types) {
  const std::string_view type = type_of(value);
  return types.empty() || std::ranges::contains(types, type) ||
         (type == "integer" && std::ranges::contains(types, "number"));
}

// The first keyword beside `allowed` that restricts, or nothing.
std::string restriction_beside(const Json& schema, std::initializer_list<std::string_view> allowed) {
  for (const auto& [keyword, value] : schema.items()) {
    if (!only_describes(keyword) && !std::ranges::contains(allowed, std::string_view(keyword))) return keyword;
  }
  return {};
}

}  // namespace

SchemaCompiler::Place SchemaCompiler::Place::at(const Json& below, std::string_view step) const {
  return {.schema = below, .path = name(step), .depth = depth + 1};
}

std::string SchemaCompiler::Place::name(std::string_view keyword) const {
  return path.empty() ? std::string(keyword) : fmt::format("{}.{}", path, keyword);
}

Result<std::string> SchemaCompiler::compile() {
  CELSLM_TRY(std::string root, rule(""));
  references_.emplace("#", root);
  direct_ = {"#"};
  CELSLM_TRY(const std::string body, visit({.schema = document_, .path = {}}));
  builder_.rules_[root] = body;
  return root;
}

// A misspelled or unknown keyword would otherwise be a restriction that is not kept.
Status SchemaCompiler::check_keywords(const Place& place) const {
  for (const auto& [keyword, value] : place.schema.items()) {
    if (only_describes(keyword) || std::ranges::contains(kOtherKeywords, std::string_view(keyword)) ||
        std::ranges::contains(kTypedKeywords, std::string_view(keyword), [](const auto& entry) { return entry.first; }))
      continue;
    return fail(ErrorKind::kInvalid, "'{}': this keyword is not supported", place.name(keyword));
  }
  if (place.schema.value("uniqueItems", Json(false)) != Json(false))
    return fail(ErrorKind::kInvalid, "'{}': this keyword is not supported, unless it is false", place.name("uniqueItems"));
  return {};
}

Result<std::string> SchemaCompiler::visit(const Place& place) {
  const Json& schema = place.schema;
  const std::string where = place.path.empty() ? "the schema" : fmt::format("'{}'", place.path);
  if (place.depth > kMaxSchemaDepth)
    return fail(ErrorKind::kInvalid, "{}: more than {} levels deep", where, kMaxSchemaDepth);
  if (++n_visited_ > kMaxSchemaNodes) return fail(ErrorKind::kInvalid, "a schema of more than {} parts", kMaxSchemaNodes);
  if (schema == Json(true)) return std::string(GrammarBuilder::kAnyValue);
  if (schema == Json(false)) return fail(ErrorKind::kInvalid, "{}: false accepts no value at all", where);
  if (!schema.is_object()) return fail(ErrorKind::kInvalid, "{} must be an object", where);
  CELSLM_CHECK_OK(check_keywords(place));
  CELSLM_TRY(std::string out, not_null(place));
  if (schema.value("nullable", Json(false)) == Json(true)) return fmt::format("( {} | \"null\" )", out);
  return out;
}

Result<std::string> SchemaCompiler::not_null(const Place& place) {
  const Json& schema = place.schema;
  if (schema.contains("$ref")) {
    CELSLM_CHECK_OK(alone(place, "$ref", {"$ref", "nullable"}));
    if (!schema["$ref"].is_string()) return fail(ErrorKind::kInvalid, "'{}' must be a string", place.name("$ref"));
    return reference(place, schema["$ref"].get<std::string>());
  }
  if (schema.contains("const") || schema.contains("enum")) return constants(place);
  for (const char* keyword : {"anyOf", "oneOf", "allOf"}) {
    if (schema.contains(keyword)) return alternatives(place, keyword);
  }
  return typed(place);
}

// `keyword` decides everything; another restriction beside it would need the intersection of two grammars.
Status SchemaCompiler::alone(const Place& place, std::string_view keyword, std::initializer_list<std::string_view> allowed) {
  const std::string other = restriction_beside(place.schema, allowed);
  if (other.empty()) return {};
  return fail(ErrorKind::kInvalid, "'{}': this keyword is not supported beside '{}'", place.name(other), keyword);
}

// "#/$defs/node": a JSON pointer (RFC 6901) within the document.
Result<std::string> SchemaCompiler::reference(const Place& place, const std::string& target) {
  if (std::ranges::contains(direct_, target))
    return fail(ErrorKind::kInvalid, "'{}': '{}' refers to itself without an object or array between", place.name("$ref"),
                target);
  if (const auto known = references_.find(target); known != references_.end()) return known->second;
  const Json* found = nullptr;
  try {
    const Json::json_pointer pointer(target.substr(std::min<std::size_t>(target.size(), 1)));
    if (target.starts_with('#') && document_.contains(pointer)) found = &document_.at(pointer);
  } catch (const Json::exception&) {  // a pointer that is none, or one into an array
  }
  if (found == nullptr) {
    return fail(ErrorKind::kInvalid, "'{}': '{}' is not in the schema ('#/$defs/NAME' is expected)", place.name("$ref"),
                target);
  }
  CELSLM_TRY(std::string rule_of_target, rule(""));
  references_.emplace(target, rule_of_target);
  direct_.push_back(target);
  CELSLM_TRY(const std::string body, visit({.schema = *found, .path = target, .depth = place.depth + 1}));
  direct_.pop_back();
  builder_.rules_[rule_of_target] = body;
  return rule_of_target;
}

Result<std::string> SchemaCompiler::constants(const Place& place) {
  const bool one = place.schema.contains("const");
  CELSLM_CHECK_OK(alone(place, one ? "const" : "enum", {one ? "const" : "enum", "type", "nullable"}));
  if (!one && !place.schema["enum"].is_array()) return fail(ErrorKind::kInvalid, "'{}' must be a list", place.name("enum"));
  CELSLM_TRY(const auto types, types_of(place));
  std::vector<std::string> values;
  for (const Json& value : one ? Json::array({place.schema["const"]}) : place.schema["enum"]) {
    if (has_type(value, types)) values.push_back(literal_of(value));
  }
  if (values.empty()) return fail(ErrorKind::kInvalid, "'{}' leaves no value", place.name(one ? "const" : "enum"));
  return one_of(values);
}

// A type beside the alternatives holds for each of them.
Result<std::string> SchemaCompiler::alternatives(const Place& place, std::string_view keyword) {
  CELSLM_CHECK_OK(alone(place, keyword, {keyword, "type", "nullable"}));
  const Json& list = place.schema[std::string(keyword)];
  if (!list.is_array() || list.empty())
    return fail(ErrorKind::kInvalid, "'{}' must be a list of schemas", place.name(keyword));
  if (keyword == "allOf" && list.size() > 1)
    return fail(ErrorKind::kInvalid, "'{}': this keyword is not supported with more than one schema", place.name(keyword));
  std::vector<std::string> out;
  for (std::size_t i = 0; i < list.size(); ++i) {
    Json alternative = list[i];
    const Place below = place.at(alternative, fmt::format("{}[{}]", keyword, i));
    if (place.schema.contains("type") && alternative.is_object()) {
      if (!alternative.contains("type")) alternative["type"] = place.schema["type"];
      if (alternative["type"] != place.schema["type"])
        return fail(ErrorKind::kInvalid, "'{}' is another one than beside '{}'", below.name("type"), keyword);
    }
    CELSLM_TRY(out.emplace_back(), visit(below));
  }
  return one_of(out);
}

Result<std::vector<std::string>> SchemaCompiler::types_of(const Place& place) const {
  constexpr std::array<std::string_view, 7> kTypes{"object", "array", "string", "number", "integer", "boolean", "null"};
  std::vector<std::string> out;
  if (!place.schema.contains("type")) return out;
  const Json& given = place.schema["type"];
  for (const Json& type : given.is_array() ? given : Json::array({given})) {
    if (!type.is_string() || !std::ranges::contains(kTypes, type.get_ref<const std::string&>()))
      return fail(ErrorKind::kInvalid, "'{}' must be one or a list of {}", place.name("type"), fmt::join(kTypes, ", "));
    out.push_back(type.get<std::string>());
  }
  if (out.empty()) return fail(ErrorKind::kInvalid, "'{}' is an empty list", place.name("type"));
  return out;
}

// Without a type, what restricts one is taken for it.
Result<std::string> SchemaCompiler::typed(const Place& place) {
  CELSLM_TRY(std::vector<std::string> types, types_of(place));
  for (const auto& [keyword, type] : kTypedKeywords) {
    const bool implied = !place.schema.contains("type") && place.schema.contains(keyword);
    if (implied && !std::ranges::contains(types, type)) types.emplace_back(type);
  }
  if (types.empty()) return std::string(GrammarBuilder::kAnyValue);
  std::vector<std::string> out;
  for (const std::string& type : types) {
    CELSLM_TRY(out.emplace_back(), of_type(place, type));
  }
  return one_of(out);
}

Result<std::string> SchemaCompiler::of_type(const Place& place, std::string_view type) {
  if (type == "null") return R"("null")";
  if (type == "boolean") return R"(( "true" | "false" ))";
  if (type == "string") return string(place);
  if (type == "number" || type == "integer") return number(place, type == "integer");
  const std::vector<std::string> outside = std::exchange(direct_, {});  // brackets come first: recursion is fine within
  CELSLM_TRY(const std::string body, type == "object" ? object(place) : array(place));
  direct_ = outside;
  return rule(body);
}

Result<long> SchemaCompiler::count_at(const Place& place, std::string_view keyword, long otherwise) const {
  const auto found = place.schema.find(std::string(keyword));
  if (found == place.schema.end()) return otherwise;
  const bool whole = found->is_number() && found->get<double>() == std::floor(found->get<double>());
  if (!whole || found->get<double>() < 0 || found->get<double>() > kMaxRepeats)
    return fail(ErrorKind::kInvalid, "'{}' must be a whole number from 0 to {}", place.name(keyword), kMaxRepeats);
  return static_cast<long>(found->get<double>());
}

}  // namespace celslm
