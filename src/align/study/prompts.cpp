#include "align/study/prompts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <numeric>

#include "align/study/words.h"
#include "core/utf8.h"

namespace celslm {
namespace {

constexpr std::size_t kPassages = 16;    // of a text of medium length
constexpr std::size_t kLeastWords = 35;  // of a passage
constexpr std::size_t kMostWords = 100;  // of a passage
constexpr std::size_t kQuoteWords = 12;
constexpr std::size_t kQuoteBytes = 110;
constexpr double kCodeLines = 0.35;  // share of a passage's lines that look like code

// The examples are about nothing that a text is likely to hold. They make answers short, which a description does not.
constexpr const char* kInstruction =
    "Write {} questions about one part of the text, each with its answer. A question is one sentence and names the person, "
    "thing or function that it is about, so that it can be understood alone. An answer has one to five words, from the "
    "text, "
    "and is no sentence. Write two lines for each and nothing else, as in this example:\n"
    "Q: In which year did Ada Zenker sell the mill in Quarnbek?\nA: 1871\n"
    "Q: What does the function tally_geese return?\nA: the number of geese\n\n";

const char* wish(QuestionStyle style) {
  switch (style) {
    case QuestionStyle::kFacts: return "Ask for facts: who did what, where, when or why.";
    case QuestionStyle::kDefinitions: return "Ask what a term, a name or an abbreviation is or means.";
    case QuestionStyle::kNumbers: return "Ask for numbers: dates, amounts, sizes or durations.";
    case QuestionStyle::kNames: return "Ask for names of people, places, organisations or things.";
    case QuestionStyle::kMultiStep: return "Each question combines two facts from different parts of the text.";
    case QuestionStyle::kSays: return "Begin each question with \"What does the text say about\".";
    case QuestionStyle::kSummary: return "Ask what this part is about as a whole: its topic or its main point.";
    case QuestionStyle::kReturns: return "Ask what a function or method returns.";
    case QuestionStyle::kBehaviour: return "Ask what a function, method or class does, or which one does something.";
    case QuestionStyle::kParameters: return "Ask for parameters, default values, types, constants or names of classes.";
  }
  return "";
}

std::uint64_t mixed(std::uint64_t value) {  // splitmix64's step
  value += 0x9E3779B97F4A7C15ULL;
  value = (value ^ value >> 30U) * 0xBF58476D1CE4E5B9ULL;
  value = (value ^ value >> 27U) * 0x94D049BB133111EBULL;
  return value ^ value >> 31U;
}

std::vector<std::size_t> shuffled(std::size_t n, std::uint64_t seed) {
  std::vector<std::size_t> out(n);
  std::iota(out.begin(), out.end(), std::size_t{0});
  for (std::size_t i = n; i > 1; --i) {
    seed = mixed(seed);
    std::swap(out[i - 1], out[seed % i]);
  }
  return out;
}

bool has_digit(std::string_view text) {
  return std::ranges::any_of(text, [](unsigned char c) { return std::isdigit(c) != 0; });
}

// A word with a capital that does not begin a sentence.
bool has_name(const std::vector<std::string_view>& words) {
  for (std::size_t i = 1; i < words.size(); ++i) {
    const bool begins = std::string_view(".!?:").contains(words[i - 1].back());
    if (!begins && std::isupper(static_cast<unsigned char>(words[i].front())) != 0) return true;
  }
  return false;
}

bool looks_like_code(std::string_view passage) {
  double lines = 0.0;
  double code = 0.0;
  while (!passage.empty()) {
    const std::size_t end = std::min(passage.find('\n'), passage.size());
    std::string_view line = passage.substr(0, end);
    passage.remove_prefix(std::min(end + 1, passage.size()));
    line = line.substr(std::min(line.find_first_not_of(" \t"), line.size()));
    line = line.substr(0, line.find_last_not_of(" \t\r") + 1);
    if (line.empty()) continue;
    lines += 1.0;
    const bool keyword = line.starts_with("def ") || line.starts_with("class ") || line.starts_with("return") ||
                         line.starts_with("import ") || line.starts_with("#include") || line.starts_with("@");
    const bool shape = line.ends_with(';') || line.ends_with('{') || line.ends_with('}') || line.contains(" = ") ||
                       line.ends_with("):") || line.ends_with(')');
    code += keyword || shape ? 1.0 : 0.0;
  }
  return lines >= 2.0 && code / lines >= kCodeLines;
}

std::vector<QuestionStyle> styles_for(std::string_view passage, bool only_one) {
  using enum QuestionStyle;
  if (looks_like_code(passage)) return {kReturns, kParameters, kBehaviour, kFacts, kNames, kMultiStep};
  std::vector<QuestionStyle> out{kFacts};
  if (has_name(words_of(passage))) out.push_back(kNames);
  if (has_digit(passage)) out.push_back(kNumbers);
  out.push_back(kDefinitions);
  if (!only_one) out.push_back(kMultiStep);
  out.push_back(kSays);
  out.push_back(kSummary);
  return out;
}

std::string quote_of(std::string_view passage) {
  std::string out;
  const auto words = words_of(passage);
  for (std::size_t i = 0; i < std::min(words.size(), kQuoteWords); ++i) {
    if (!out.empty()) out += ' ';
    out += words[i];
  }
  if (out.size() > kQuoteBytes) {
    out.resize(kQuoteBytes);
    out.resize(out.size() - incomplete_utf8_tail(out));
  }
  return out;
}

// Whether a passage may begin with words[i]: it begins the text, a line, or follows a sentence's end.
bool may_begin(std::string_view text, const std::vector<std::string_view>& words, std::size_t i) {
  if (i == 0) return true;
  const auto from = static_cast<std::size_t>(words[i - 1].data() + words[i - 1].size() - text.data());
  const auto to = static_cast<std::size_t>(words[i].data() - text.data());
  return text.substr(from, to - from).contains('\n') || std::string_view(".!?").contains(words[i - 1].back());
}

std::vector<std::size_t> beginnings(std::string_view text, const std::vector<std::string_view>& words) {
  const std::size_t length = std::clamp(words.size() / kPassages, kLeastWords, kMostWords);
  std::vector<std::size_t> out{0};
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::size_t passed = i - out.back();
    if (words.size() - i < length / 2) break;
    if (passed >= 2 * length || (passed >= length && may_begin(text, words, i))) out.push_back(i);
  }
  return out;
}

}  // namespace

const char* to_string(QuestionStyle style) {
  switch (style) {
    case QuestionStyle::kFacts: return "facts";
    case QuestionStyle::kDefinitions: return "definitions";
    case QuestionStyle::kNumbers: return "numbers";
    case QuestionStyle::kNames: return "names";
    case QuestionStyle::kMultiStep: return "multi_step";
    case QuestionStyle::kSays: return "says";
    case QuestionStyle::kSummary: return "summary";
    case QuestionStyle::kReturns: return "returns";
    case QuestionStyle::kBehaviour: return "behaviour";
    case QuestionStyle::kParameters: return "parameters";
  }
  return "";
}

bool is_extractive(QuestionStyle style) {
  using enum QuestionStyle;
  return style == kFacts || style == kNumbers || style == kNames || style == kParameters;
}

std::vector<Passage> passages_of(std::string_view text) {
  const auto words = words_of(text);
  if (words.empty()) return {};
  const auto starts = beginnings(text, words);
  std::vector<Passage> out;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const auto from = static_cast<std::size_t>(words[starts[i]].data() - text.data());
    const auto to =
        i + 1 < starts.size() ? static_cast<std::size_t>(words[starts[i + 1]].data() - text.data()) : text.size();
    const std::string_view passage = text.substr(from, to - from);
    out.push_back({.quote = quote_of(passage), .styles = styles_for(passage, starts.size() == 1)});
  }
  return out;
}

AskPlan plan_turn(std::span<const Passage> passages, std::uint64_t seed, std::size_t index) {
  const std::size_t run = index / passages.size();
  const std::size_t passage = shuffled(passages.size(), mixed(seed) + run)[index % passages.size()];
  const auto& styles = passages[passage].styles;
  AskPlan out{.style = styles[(run + passage) % styles.size()],
              .passage = passage,
              .seed = static_cast<std::uint32_t>(mixed(mixed(seed) ^ (index + 1)))};
  const std::size_t n = passages.size();
  out.other = n == 1 ? 0 : (passage + 1 + mixed(mixed(seed) ^ ~index) % (n - 1)) % n;
  return out;
}

std::size_t all_turns(std::span<const Passage> passages) {
  std::size_t most = 0;
  for (const Passage& passage : passages) most = std::max(most, passage.styles.size());
  return most * passages.size();
}

std::string ask_prompt(std::span<const Passage> passages, const AskPlan& plan, int count) {
  std::string out = fmt::format(kInstruction, count);
  out += wish(plan.style);
  out += fmt::format("\nThe part begins with: \"{}\"", passages[plan.passage].quote);
  if (plan.style == QuestionStyle::kMultiStep)
    out += fmt::format("\nThe other part begins with: \"{}\"", passages[plan.other].quote);
  return out;
}

}  // namespace celslm
