#include <fmt/format.h>

#include <cmath>

#include "model/grammar/grammar_limits.h"
#include "model/grammar/json_rules.h"
#include "model/grammar/json_schema.h"
#include "model/grammar/schema_compiler.h"

namespace celslm {
namespace {

std::string rule_name(std::string_view name) {
  std::string out(name);
  for (char& c : out) {
    const bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!fine) c = '-';
  }
  return out.empty() ? "rule" : out;
}

}  // namespace

GrammarBuilder::GrammarBuilder() {
  for (const auto& [name, body] : kJsonRules) rules_.emplace(name, body);
}

Result<std::string> GrammarBuilder::add_rule(std::string_view name, std::string_view gbnf) {
  if (rules_.size() >= kMaxGrammarRules) return fail(ErrorKind::kInvalid, "more than {} rules", kMaxGrammarRules);
  std::string unique = rule_name(name);
  // "root" is left for text().
  for (std::size_t n = rules_.size(); rules_.contains(unique) || unique == "root"; ++n)
    unique = fmt::format("{}-{}", rule_name(name), n);
  rules_.emplace(unique, gbnf);
  return unique;
}

Result<std::string> GrammarBuilder::add_schema(std::string_view name, const nlohmann::ordered_json& schema) {
  auto before = rules_;
  auto added = SchemaCompiler(*this, schema, rule_name(name)).compile();
  if (!added) rules_ = std::move(before);
  return added;
}

Result<std::string> GrammarBuilder::text(std::string_view rule) const {
  if (!rules_.contains(rule)) return fail(ErrorKind::kInvalid, "the grammar has no rule '{}'", rule);
  std::string out = fmt::format("root ::= {}\n", rule);
  for (const auto& [name, body] : rules_) out += fmt::format("{} ::= {}\n", name, body);
  if (out.size() > kMaxMadeGrammarBytes) {
    return fail(ErrorKind::kInvalid, "as a grammar it would have {} bytes; at most {} are accepted", out.size(),
                kMaxMadeGrammarBytes);
  }
  return out;
}

std::string gbnf_literal(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += fmt::format("\\{}", c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (byte < 0x20) {
      out += fmt::format("\\x{:02X}", byte);
    } else {
      out += c;
    }
  }
  return out + '"';
}

namespace {

constexpr long kPlainRepeats = 64;  // up to here the grammar's own braces are as good

// `count` times in about twice the root of that many parts.
std::string exactly(std::string_view item, long count) {
  if (count <= kPlainRepeats) return fmt::format("{}{{{}}}", item, count);
  const long block = std::lround(std::sqrt(static_cast<double>(count)));
  std::string out = fmt::format("( {}{{{}}} ){{{}}}", item, block, count / block);
  if (count % block > 0) out += fmt::format(" {}{{{}}}", item, count % block);
  return out;
}

// Up to `count` times: some blocks in full, then less than one more.
std::string up_to(std::string_view item, long count) {
  if (count <= kPlainRepeats) return fmt::format("{}{{0,{}}}", item, count);
  const long block = std::lround(std::sqrt(static_cast<double>(count)));
  const long full = count / block;
  return fmt::format("( {}{{{}}} ){{0,{}}} {}{{0,{}}}", item, block, full - 1, item, block + count % block);
}

}  // namespace

std::string gbnf_repeat(std::string_view item, long least, long most) {
  std::string out = least > 0 ? exactly(item, least) : "";
  const std::string rest = most < 0 ? fmt::format("{}*", item) : most > least ? up_to(item, most - least) : "";
  if (!rest.empty()) out += (out.empty() ? "" : " ") + rest;
  return out.empty() ? R"("")" : out;
}

}  // namespace celslm
