#include "serve/openai/response_format.h"

#include <nlohmann/json.hpp>

#include "model/grammar/grammar_limits.h"
#include "model/grammar/json_schema.h"

namespace celslm {
namespace {

using nlohmann::ordered_json;

Result<GrammarSpec> grammar_of(std::string_view body, const ordered_json::json_pointer& place, const std::string& name) {
  CELSLM_TRY(const ordered_json request, parse_ordered_object(body));
  GrammarBuilder builder;
  auto rule = builder.add_schema("answer", request.at(place));
  if (!rule) return wrap(rule.error(), "field '" + name + "'");
  auto text = builder.text(*rule);
  if (!text) return wrap(text.error(), "field '" + name + "'");
  return GrammarSpec{.text = *std::move(text)};
}

Result<GrammarSpec> json_schema_format(const JsonFields& format, std::string_view body) {
  // llama.cpp also takes the schema without a name.
  CELSLM_TRY(const auto named, format.object("json_schema"));
  const JsonFields& holder = named ? *named : format;
  CELSLM_CHECK_OK(holder.flag("strict").transform([](auto) {}));
  const nlohmann::json* schema = holder.find("schema");
  if (schema == nullptr) return format.expected("json_schema", "an object with 'name' and 'schema'");
  const std::string place = named ? "/response_format/json_schema/schema" : "/response_format/schema";
  return grammar_of(body, ordered_json::json_pointer(place), holder.path("schema"));
}

}  // namespace

Result<GrammarSpec> read_response_format(const JsonFields& fields, std::string_view body) {
  CELSLM_TRY(const auto grammar, fields.text("grammar", kMaxGrammarBytes));
  GrammarSpec out{.text = grammar.value_or("")};
  CELSLM_TRY(const auto format, fields.object("response_format"));
  if (!format) return out;
  CELSLM_TRY(const auto type, format->text("type", 64));
  if (type == "text") return out;
  if (type != "json_object" && type != "json_schema")
    return format->expected("type", "'text', 'json_object' or 'json_schema'");
  if (!out.empty()) return fields.expected("grammar", "absent when response_format asks for JSON");
  if (type == "json_schema") return json_schema_format(*format, body);
  if (format->find("schema") != nullptr)
    return grammar_of(body, ordered_json::json_pointer("/response_format/schema"), format->path("schema"));
  CELSLM_TRY(out.text, GrammarBuilder().text(GrammarBuilder::kAnyObject));
  return out;
}

}  // namespace celslm
