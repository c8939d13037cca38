// Walks a JSON Schema and adds the rules that accept what it accepts; for json_schema.h.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "model/grammar/json_schema.h"

namespace celslm {

// One document. Builder and document must outlive it.
class SchemaCompiler {
 public:
  using Json = nlohmann::ordered_json;

  SchemaCompiler(GrammarBuilder& builder, const Json& document, std::string name)
      : builder_(builder), document_(document), name_(std::move(name)) {}

  // The name of the rule that accepts what the document does.
  Result<std::string> compile();

 private:
  // A schema, and where in the document it stands, for errors.
  struct Place {
    const Json& schema;
    std::string path;
    int depth = 0;
    Place at(const Json& below, std::string_view step) const;
    std::string name(std::string_view keyword) const;
  };
  struct Property {
    std::string name;
    std::string pair;  // the rule of its name and its value
    bool required = false;
  };

  struct Bound {
    double value = 0;
    bool exclusive = false;
    std::string keyword;
  };

  // Each returns GBNF that may stand in a sequence.
  Result<std::string> visit(const Place& place);
  Result<std::string> not_null(const Place& place);
  Result<std::string> reference(const Place& place, const std::string& target);
  Result<std::string> alternatives(const Place& place, std::string_view keyword);
  Result<std::string> constants(const Place& place);
  Result<std::string> typed(const Place& place);
  Result<std::string> of_type(const Place& place, std::string_view type);
  Result<std::string> object(const Place& place);
  Result<std::string> array(const Place& place);
  Result<std::string> string(const Place& place);
  Result<std::string> number(const Place& place, bool whole);

  Result<std::vector<std::string>> types_of(const Place& place) const;
  Result<std::vector<Property>> properties_of(const Place& place, const Json* additional);
  Result<std::string> pair_of(const Place& place, const std::string& key, const Json& value);
  Result<std::string> members(std::span<const Property> properties, const std::string& others);
  Result<std::string> other_members(const Place& place, const Json& additional, std::span<const Property> properties);
  Result<std::string> items(const Place& place, const Json& prefix, long least, long most);

  Result<std::optional<Bound>> bound(const Place& place, bool low) const;
  Status check_keywords(const Place& place) const;
  static Status alone(const Place& place, std::string_view keyword, std::initializer_list<std::string_view> allowed);
  Result<long> count_at(const Place& place, std::string_view keyword, long otherwise) const;
  // The name of a new rule.
  Result<std::string> rule(const std::string& gbnf) { return builder_.add_rule(name_, gbnf); }

  GrammarBuilder& builder_;
  const Json& document_;
  const std::string name_;
  std::map<std::string, std::string, std::less<>> references_;  // targets of $ref and the rules for them
  std::vector<std::string> direct_;  // targets under way, with no bracket between them and the schema being visited
  std::size_t n_visited_ = 0;
};

}  // namespace celslm
