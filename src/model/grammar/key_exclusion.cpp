#include "model/grammar/key_exclusion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <vector>

#include "model/grammar/code_points.h"

namespace celslm {
namespace {

// The names as a tree of characters.
struct Node {
  std::map<char32_t, Node> below;
  bool is_name = false;
};

void insert(Node& root, const std::string& name) {
  Node* node = &root;
  for (const char32_t c : code_points_of(name)) node = &node->below[c];
  node->is_name = true;
}

// The rest of a string that has followed the tree up to here.
Result<std::string> add_rest(GrammarBuilder& builder, std::string_view rule_name, const Node& node) {
  std::string others = R"(["\\\x00-\x1F)";
  std::vector<std::string> out;
  for (const auto& [c, below] : node.below) {
    if (c < 0x20 || c == '"' || c == '\\') continue;  // written as an escape, which is not accepted here
    others += class_character(c);
    CELSLM_TRY(const std::string rest, add_rest(builder, rule_name, below));
    out.push_back(fmt::format("[{}] {}", class_character(c), rest));
  }
  out.push_back(fmt::format("[^{}] json-char*", others.substr(1)));
  if (!node.is_name) out.emplace_back(R"("")");
  return builder.add_rule(rule_name, fmt::format("{}", fmt::join(out, " | ")));
}

}  // namespace

Result<std::string> add_key_rules(GrammarBuilder& builder, std::string_view rule_name, std::span<const std::string> names) {
  if (names.empty()) return "json-string";
  Node root;
  for (const std::string& name : names) insert(root, name);
  CELSLM_TRY(const std::string rest, add_rest(builder, rule_name, root));
  return builder.add_rule(rule_name, fmt::format(R"("\"" {} "\"")", rest));
}

}  // namespace celslm
