#include "model/grammar/pattern.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "model/grammar/code_points.h"
#include "model/grammar/grammar_limits.h"
#include "model/grammar/json_schema.h"

namespace celslm {
namespace {

constexpr int kMaxGroups = 32;                         // within each other
constexpr std::size_t kMaxPattern = 2'000;             // characters
constexpr std::size_t kMaxPatternGrammar = 64U << 10;  // bytes
constexpr std::string_view kAnything = "json-char*";

const CodeSet kDigits{{'0', '9'}};
const CodeSet kWord{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const CodeSet kSpace{{'\t', '\r'}, {' ', ' '}, {0xA0, 0xA0}, {0x2028, 0x2029}, {0x3000, 0x3000}};
const CodeSet kLineEnds{{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

class PatternReader {
 public:
  explicit PatternReader(std::u32string_view pattern) : rest_(pattern) {}

  Result<std::string> read() {
    CELSLM_TRY(std::string out, alternatives(0));
    if (!rest_.empty()) return unexpected("')' without a group");
    return out;
  }

 private:
  static std::unexpected<Error> unexpected(std::string_view what) { return fail(ErrorKind::kInvalid, "{}", what); }

  bool next_is(char32_t c) const { return !rest_.empty() && rest_.front() == c; }
  bool take(char32_t c) {
    if (!next_is(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  std::optional<char32_t> take_any() {
    if (rest_.empty()) return std::nullopt;
    const char32_t c = rest_.front();
    rest_.remove_prefix(1);
    return c;
  }

  // At the top each alternative has anchors of its own, as the notation has it: ^a|b$ is "begins with a, or ends with b".
  Result<std::string> alternatives(int depth) {
    if (depth > kMaxGroups) return unexpected(fmt::format("more than {} groups within each other", kMaxGroups));
    std::vector<std::string> out;
    do {
      CELSLM_TRY(out.emplace_back(), sequence(depth));
    } while (take('|'));
    return out.size() == 1 ? out.front() : fmt::format("( {} )", fmt::join(out, " | "));
  }

  Result<std::string> sequence(int depth) {
    std::vector<std::string> out;
    if (depth == 0 && !take('^')) out.emplace_back(kAnything);
    bool ended = false;
    while (!rest_.empty() && !next_is('|') && !next_is(')')) {
      if (depth == 0 && take('$')) {
        ended = true;
        break;
      }
      CELSLM_TRY(out.emplace_back(), quantified(depth));
    }
    if (ended && !rest_.empty() && !next_is('|')) return unexpected("'$' is supported at the end only");
    if (depth == 0 && !ended) out.emplace_back(kAnything);
    return out.empty() ? R"("")" : fmt::format("{}", fmt::join(out, " "));
  }

  Result<std::string> quantified(int depth) {
    CELSLM_TRY(std::string item, atom(depth));
    long least = 1;
    long most = 1;
    CELSLM_TRY(const bool counted, quantifier(least, most));
    if (!counted) return item;
    take('?');  // lazy: the same strings
    if (next_is('*') || next_is('+') || next_is('?') || next_is('{'))
      return unexpected("a quantifier without anything before it");
    if (most >= 0 && most < least) return unexpected(fmt::format("{{{},{}}}: the bounds are reversed", least, most));
    std::string out = gbnf_repeat(fmt::format("( {} )", item), least, most);
    // Counts write their item several times; within each other that multiplies.
    if (out.size() > kMaxPatternGrammar)
      return unexpected("too long as a grammar: use smaller counts, or fewer within each other");
    return out;
  }

  Result<bool> quantifier(long& least, long& most) {
    if (take('*')) return least = 0, most = -1, true;
    if (take('+')) return most = -1, true;
    if (take('?')) return least = 0, true;
    if (!next_is('{')) return false;
    take('{');
    CELSLM_TRY(least, count());
    most = least;
    if (take(',')) {
      most = -1;
      if (!next_is('}')) {
        CELSLM_TRY(most, count());
      }
    }
    if (!take('}')) return unexpected("'{' must be followed by counts and '}' (a brace itself is written '\\{')");
    return true;
  }

  Result<long> count() {
    long out = -1;
    while (!rest_.empty() && rest_.front() >= '0' && rest_.front() <= '9') {
      out = std::max(out, 0L) * 10 + static_cast<long>(*take_any() - U'0');
      if (out > kMaxRepeats) return unexpected(fmt::format("more than {} repetitions", kMaxRepeats));
    }
    if (out < 0) return unexpected("'{' must be followed by counts and '}' (a brace itself is written '\\{')");
    return out;
  }

  Result<std::string> atom(int depth) {
    if (take('(')) return group(depth);
    if (take('[')) return character_class();
    const char32_t c = *take_any();
    if (c == '.') return written(complement(normalized(kLineEnds)));
    if (c == '\\') {
      CELSLM_TRY(const CodeSet set, escape());
      return written(set);
    }
    if (c == '*' || c == '+' || c == '?' || c == '{') return unexpected("a quantifier without anything before it");
    if (c == '^' || c == '$') return unexpected("'^' is supported at the beginning, '$' at the end only");
    return written({{c, c}});
  }

  Result<std::string> group(int depth) {
    if (take('?')) {
      const bool named = take('<') && !next_is('=') && !next_is('!');
      if (named) {
        while (!rest_.empty() && !take('>')) rest_.remove_prefix(1);
      } else if (!take(':')) {
        return unexpected("look-around is not supported");
      }
    }
    CELSLM_TRY(const std::string inner, alternatives(depth + 1));
    if (!take(')')) return unexpected("'(' without ')'");
    return fmt::format("( {} )", inner);
  }

  Result<std::string> character_class() {
    const bool negated = take('^');
    CodeSet set;
    while (!next_is(']')) {
      CELSLM_TRY(const CodeSet from, class_member());
      if (rest_.size() >= 2 && next_is('-') && rest_[1] != ']') {
        take('-');
        CELSLM_TRY(const CodeSet to, class_member());
        const bool single = from.size() == 1 && to.size() == 1 && from[0].first == from[0].last && to[0].first == to[0].last;
        if (!single || from[0].first > to[0].first)
          return unexpected("a range of characters whose ends are reversed or no characters");
        set.push_back({from[0].first, to[0].first});
      } else {
        set.insert(set.end(), from.begin(), from.end());
      }
    }
    take(']');
    set = normalized(set);
    return written(negated ? complement(set) : set);
  }

  Result<CodeSet> class_member() {
    const auto c = take_any();
    if (!c) return unexpected("'[' without ']'");
    if (*c != '\\') return CodeSet{{*c, *c}};
    if (take('b')) return CodeSet{{'\b', '\b'}};
    return escape();
  }

  // Behind a backslash.
  Result<CodeSet> escape() {
    const auto c = take_any();
    if (!c) return unexpected("a backslash at the end");
    switch (*c) {
      case 'd': return kDigits;
      case 'D': return complement(kDigits);
      case 'w': return kWord;
      case 'W': return complement(kWord);
      case 's': return kSpace;
      case 'S': return complement(kSpace);
      case 'n': return CodeSet{{'\n', '\n'}};
      case 'r': return CodeSet{{'\r', '\r'}};
      case 't': return CodeSet{{'\t', '\t'}};
      case 'f': return CodeSet{{'\f', '\f'}};
      case 'v': return CodeSet{{'\v', '\v'}};
      case 'x': return hex(2);
      case 'u': return hex(4);
      default: break;
    }
    const bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9');
    if (letter) return unexpected(fmt::format("'\\{}' is not supported", static_cast<char>(*c)));
    return CodeSet{{*c, *c}};
  }

  Result<CodeSet> hex(int n_digits) {
    char32_t out = 0;
    for (int i = 0; i < n_digits; ++i) {
      const char32_t c = take_any().value_or(0);
      const char32_t digit = c >= '0' && c <= '9'   ? c - '0'
                             : c >= 'a' && c <= 'f' ? c - 'a' + 10
                             : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                    : 16;
      if (digit == 16) return unexpected(fmt::format("{} hex digits are expected", n_digits));
      out = out * 16 + digit;
    }
    return CodeSet{{out, out}};
  }

  static Result<std::string> written(const CodeSet& set) {
    std::string out = json_character(set);
    if (out.empty()) return unexpected("a class without a character that JSON text can hold");
    return out;
  }

  std::u32string_view rest_;
};

}  // namespace

Result<std::string> pattern_grammar(std::string_view pattern) {
  const std::u32string characters = code_points_of(pattern);
  if (characters.size() > kMaxPattern) return fail(ErrorKind::kInvalid, "a pattern of more than {} characters", kMaxPattern);
  auto out = PatternReader(characters).read();
  if (!out) return wrap(out.error(), "the pattern");
  return out;
}

}  // namespace celslm
