// GBNF grammars made of JSON Schemas and of rules of one's own.
//
// Every text that a schema's rule accepts is JSON that the schema accepts; the reverse does not hold everywhere: properties
// come in the schema's order, and a schema with properties accepts others only where additionalProperties is given.
// Supported: type (also a list), enum, const, anyOf, oneOf (read as anyOf), allOf of one schema, $ref within the document,
// recursion included; properties, required, additionalProperties; items, prefixItems, minItems, maxItems; minLength,
// maxLength, pattern (regular expressions without look-around, back references and word boundaries), the formats of
// string_formats(); minimum, maximum and their exclusive forms (whole numbers). What only describes (title, description,
// default, examples, ...) is skipped. Every other keyword is refused by name, as is a document of unreasonable size.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "core/result.h"

namespace celslm {

// Collects rules; not thread-safe. Names may hold letters, digits and hyphens; other characters become hyphens.
class GrammarBuilder {
 public:
  // Rules that are always there: any JSON value, and any JSON object.
  static constexpr std::string_view kAnyValue = "json-value";
  static constexpr std::string_view kAnyObject = "json-object";

  GrammarBuilder();

  // Adds rules that accept JSON by this schema and returns the name of the first one: `name`, or `name` and a number where
  // that is taken. kInvalid with the place in the document ("properties.age.minimum") and the keyword. ordered_json, because
  // the order of properties matters to a model that thinks while it writes: see parse_ordered_object(). After an error the
  // builder is as before.
  Result<std::string> add_schema(std::string_view name, const nlohmann::ordered_json& schema);

  // Adds a rule whose right side is `gbnf`, under a name as above.
  Result<std::string> add_rule(std::string_view name, std::string_view gbnf);

  // The complete grammar, whose root is `rule`. kInvalid when it is larger than a grammar may be.
  Result<std::string> text(std::string_view rule) const;

 private:
  friend class SchemaCompiler;  // fills in rules that refer to themselves

  std::map<std::string, std::string, std::less<>> rules_;
};

// `text` as a GBNF literal, with its quotation marks.
std::string gbnf_literal(std::string_view text);

// GBNF for `least` to `most` times `item` (a rule's name or a group); most < 0: without end. The number of rules that
// libllama makes of it grows with the square root of the counts.
std::string gbnf_repeat(std::string_view item, long least, long most);

}  // namespace celslm
