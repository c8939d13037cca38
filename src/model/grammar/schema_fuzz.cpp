// A JSON Schema of any bytes ends with an error or with a grammar of bounded size; the first byte chooses a schema, a
// pattern of one, or a name of a format.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/json.h"
#include "model/grammar/grammar_limits.h"
#include "model/grammar/json_schema.h"
#include "model/grammar/pattern.h"
#include "model/grammar/string_formats.h"

namespace celslm {
namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void compile(std::string_view text) {
  const auto schema = parse_ordered_object(text);
  if (!schema) return;
  GrammarBuilder builder;
  const auto rule = builder.add_schema("answer", *schema);
  if (!rule) return require(rule.error().kind == ErrorKind::kInvalid && !rule.error().message.empty());
  const auto grammar = builder.text(*rule);
  require(!grammar || (grammar->size() <= kMaxMadeGrammarBytes && grammar->starts_with("root ::= answer")));
}

}  // namespace
}  // namespace celslm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0: celslm::compile(rest); break;
    case 1: static_cast<void>(celslm::pattern_grammar(rest)); break;
    default: static_cast<void>(celslm::format_grammar(rest));
  }
  return 0;
}
