// JSON from outside: parsed within limits, and read field by field without exceptions. Files that look into a document
// include <nlohmann/json.hpp> themselves; headers need no more than this one.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "core/hash.h"
#include "core/result.h"

namespace celslm {

struct JsonLimits {
  int depth = 64;        // nesting that would exhaust the parser's stack
  int values = 1 << 20;  // "[{},{},…": a tree thirty times as large as its text
  // Keys that are compared with those before them, in all objects together: ordered objects are lists.
  std::int64_t comparisons = 20'000'000;
};

// kInvalid for text that is malformed or beyond the limits, and for any document but an object.
Result<nlohmann::json> parse_object(std::string_view text, const JsonLimits& limits = {});

// The same, with the keys of each object in the order of the text, for the few documents where it means something. Slower,
// and also refuses objects of very many keys.
Result<nlohmann::ordered_json> parse_ordered_object(std::string_view text, const JsonLimits& limits = {});

// On one line. Bytes that are not UTF-8 (an error message that quotes a peer) become U+FFFD.
std::string dump_json(const nlohmann::json& value);

// The fields of one JSON object, typed. Absent and null are the same, since OpenAI's clients send either. Errors are
// kInvalid and name the field and what it must be. The object must outlive this.
class JsonFields {
 public:
  // object: must be one. prefix: what comes before a field's name in errors ("messages[0].").
  explicit JsonFields(const nlohmann::json& object, std::string prefix = {});
  // kInvalid where `value` is no object; `name` is then what errors call it, and otherwise the prefix.
  static Result<JsonFields> of(const nlohmann::json& value, const std::string& name);

  // Null where there is none.
  const nlohmann::json* find(std::string_view name) const;

  // Where the field may be absent.
  Result<std::optional<bool>> flag(std::string_view name) const;
  Result<std::optional<std::int64_t>> integer(std::string_view name, std::int64_t low, std::int64_t high) const;
  Result<std::optional<double>> number(std::string_view name, double low, double high) const;
  Result<std::optional<std::string>> text(std::string_view name, std::size_t max_bytes = std::string::npos) const;
  Result<std::optional<JsonFields>> object(std::string_view name) const;
  // An array of at most max_items; null where there is none.
  Result<const nlohmann::json*> list(std::string_view name, std::size_t max_items) const;

  // Where it may not.
  Result<bool> required_flag(std::string_view name) const;
  Result<std::int64_t> required_integer(std::string_view name, std::int64_t low, std::int64_t high) const;
  Result<std::string> required_text(std::string_view name, std::size_t max_bytes = std::string::npos) const;
  Result<Hash256> required_hash(std::string_view name) const;
  Result<JsonFields> required_object(std::string_view name) const;
  Result<const nlohmann::json*> required_list(std::string_view name, std::size_t max_items) const;

  // "field 'prefix.name' must be <what>"
  std::unexpected<Error> expected(std::string_view name, std::string_view what) const;
  std::string path(std::string_view name) const;

 private:
  const nlohmann::json* object_;
  std::string prefix_;
};

}  // namespace celslm
