#include "model/text/template_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

namespace celslm {
namespace {

constexpr std::size_t kMaxTagCode = 2048;      // bytes of one tag beside its strings: one recursion each in the worst case
constexpr std::size_t kMaxBrackets = 64;       // nested in a tag
constexpr std::size_t kMaxBlocks = 64;         // nested
constexpr std::size_t kMaxComment = 8U << 10;  // bytes; std::regex recurses once for each
constexpr std::size_t kMaxRun = 4096;          // of letters, or of spaces: the same

constexpr std::array<std::string_view, 6> kOpening = {"if", "for", "macro", "call", "filter", "generation"};

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}
bool is_space(char c) {
  return std::isspace(static_cast<unsigned char>(c)) != 0;
}

// The longest run of characters of one kind.
std::size_t longest_run(std::string_view text, bool (*kind)(char)) {
  std::size_t longest = 0;
  std::size_t run = 0;
  for (const char c : text) {
    run = kind(c) ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  return longest;
}

Status check_text(std::string_view source) {
  if (source.size() > kMaxTemplateBytes)
    return fail(ErrorKind::kInvalid, "{} bytes; at most {} are accepted", source.size(), kMaxTemplateBytes);
  if (source.contains('\0')) return fail(ErrorKind::kInvalid, "it contains a NUL byte");
  if (std::max(longest_run(source, is_word), longest_run(source, is_space)) > kMaxRun)
    return fail(ErrorKind::kInvalid, "a word or a blank of more than {} bytes", kMaxRun);
  for (std::size_t at = source.find("{#"); at != std::string_view::npos; at = source.find("{#", at + 1)) {
    if (std::min(source.find("#}", at + 2), source.size()) - at > kMaxComment)
      return fail(ErrorKind::kInvalid, "a comment of more than {} bytes", kMaxComment);
  }
  return {};
}

// The code of one tag, between its braces.
class TagReader {
 public:
  TagReader(std::string_view source, std::size_t at, std::string_view closing)
      : source_(source), at_(at), closing_(closing) {}

  // Reads to behind the closing braces.
  Status read(std::vector<std::string>& literals) {
    while (at_ < source_.size()) {
      if (brackets_.empty() && source_.substr(at_).starts_with(closing_)) {
        at_ += closing_.size();
        return {};
      }
      CELSLM_CHECK_OK(read_one(literals));
      if (n_code_ > kMaxTagCode) return fail(ErrorKind::kInvalid, "a tag with more than {} bytes of code", kMaxTagCode);
    }
    return fail(ErrorKind::kInvalid, "a tag without its end '{}'", closing_);
  }

  std::size_t end() const { return at_; }
  const std::string& keyword() const { return keyword_; }
  bool assigns() const { return assigns_; }

 private:
  struct Bracket {
    char close = 0;
    std::size_t at = 0;
    int colons = 0;
  };

  Status read_one(std::vector<std::string>& literals) {
    const char c = source_[at_];
    if (c == '"' || c == '\'') return read_string(c, literals);
    if (is_word(c)) return read_word();
    ++at_;
    ++n_code_;
    switch (c) {
      case '(': return open(')');
      case '[': return open(']');
      case '{': return open('}');
      case ')':
      case ']':
      case '}': return close(c);
      case ':': return colon();
      case '%':
      case '/': return divisor();
      case '=': assigns_ = assigns_ || brackets_.empty(); return {};
      default: return {};
    }
  }

  Status read_string(char quote, std::vector<std::string>& literals) {
    std::string out;
    for (++at_; at_ < source_.size() && source_[at_] != quote; ++at_) {
      if (source_[at_] != '\\' || at_ + 1 == source_.size()) {
        out += source_[at_];
        continue;
      }
      constexpr std::string_view kEscapes = "nrtbf";
      const std::size_t known = kEscapes.find(source_[++at_]);
      out += known == std::string_view::npos ? source_[at_] : std::string_view("\n\r\t\b\f")[known];
    }
    if (at_ == source_.size()) return fail(ErrorKind::kInvalid, "a string without its end");
    ++at_;
    literals.push_back(std::move(out));
    return {};
  }

  Status read_word() {
    const std::size_t from = at_;
    while (at_ < source_.size() && is_word(source_[at_])) ++at_;
    const std::string_view word = source_.substr(from, at_ - from);
    n_code_ += word.size();
    if (word == "recursive" || word == "cycle") return fail(ErrorKind::kInvalid, "'{}' of loops is not supported", word);
    if (keyword_.empty()) keyword_ = word;
    return {};
  }

  Status open(char closing) {
    brackets_.push_back({.close = closing, .at = at_ - 1});
    if (brackets_.size() > kMaxBrackets)
      return fail(ErrorKind::kInvalid, "more than {} brackets inside one another", kMaxBrackets);
    return {};
  }

  Status close(char bracket) {
    if (brackets_.empty() || brackets_.back().close != bracket) return fail(ErrorKind::kInvalid, "a '{}' too many", bracket);
    brackets_.pop_back();
    return {};
  }

  // A string's slice with a step is read without a check of its bounds.
  Status colon() {
    if (brackets_.empty() || brackets_.back().close != ']' || ++brackets_.back().colons < 2) return {};
    std::string slice(source_.substr(brackets_.back().at, 32));
    std::erase_if(slice, is_space);
    if (slice.starts_with("[::-1]")) return {};
    return fail(ErrorKind::kInvalid, "of slices with a step only [::-1] is supported");
  }

  // Division by zero would end the process.
  Status divisor() {
    std::size_t i = at_;
    if (i < source_.size() && source_[i] == '/') ++i;
    while (i < source_.size() && is_space(source_[i])) ++i;
    const std::size_t from = i;
    while (i < source_.size() && std::isdigit(static_cast<unsigned char>(source_[i])) != 0) ++i;
    const bool whole =
        i > from && source_[from] != '0' && (i == source_.size() || (source_[i] != '.' && !is_word(source_[i])));
    if (whole) return {};
    return fail(ErrorKind::kInvalid, "division and remainder are supported by whole numbers only");
  }

  const std::string_view source_;
  std::size_t at_;
  const std::string_view closing_;
  std::vector<Bracket> brackets_;
  std::size_t n_code_ = 0;
  std::string keyword_;
  bool assigns_ = false;
};

class SourceReader {
 public:
  explicit SourceReader(std::string_view source) : source_(source) {}

  Result<TemplateSource> read() {
    while (at_ < source_.size()) {
      std::size_t tag = at_;
      while (tag < source_.size() && !begins_tag(tag)) ++tag;
      copy(tag);
      if (tag < source_.size()) CELSLM_CHECK_OK(read_tag());
    }
    return std::move(out_);
  }

 private:
  bool begins_tag(std::size_t at) const {
    return source_[at] == '{' && at + 1 < source_.size() && std::string_view("{%#").contains(source_[at + 1]);
  }

  void copy(std::size_t end) {
    out_.text += source_.substr(at_, end - at_);
    at_ = end;
  }

  Status read_tag() {
    const char kind = source_[at_ + 1];
    if (kind == '#') {
      copy(std::min(source_.find("#}", at_ + 2), source_.size() - 2) + 2);
      return {};
    }
    TagReader tag(source_, at_ + 2, kind == '{' ? "}}" : "%}");
    CELSLM_CHECK_OK(tag.read(out_.literals));
    copy(tag.end());
    return kind == '%' ? note_block(tag) : Status();
  }

  Status note_block(const TagReader& tag) {
    const std::string& keyword = tag.keyword();
    if (keyword.starts_with("end")) {
      if (!blocks_.empty()) blocks_.pop_back();
      return {};
    }
    if (!std::ranges::contains(kOpening, keyword) && (keyword != "set" || tag.assigns())) return {};
    // A macro keeps the variables around it, and they keep the macro: those of a loop would never be freed.
    if ((keyword == "macro" || keyword == "call") && std::ranges::contains(blocks_, "for"))
      return fail(ErrorKind::kInvalid, "'{}' inside a loop is not supported", keyword);
    blocks_.push_back(keyword);
    if (blocks_.size() > kMaxBlocks) return fail(ErrorKind::kInvalid, "more than {} blocks inside one another", kMaxBlocks);
    if (keyword == "for" || keyword == "macro") count_steps();
    return {};
  }

  // With the tag's own mark for the blanks behind it.
  void count_steps() {
    const char mark = source_[at_ - 3];
    out_.text += fmt::format("{{% set celslm_ = {}() {}%}}", kStepFunction,
                             mark == '-' || mark == '~' ? std::string_view(&source_[at_ - 3], 1) : "");
  }

  const std::string_view source_;
  std::size_t at_ = 0;
  std::vector<std::string> blocks_;
  TemplateSource out_;
};

}  // namespace

Result<TemplateSource> read_template_source(std::string_view source) {
  CELSLM_CHECK_OK(check_text(source));
  return SourceReader(source).read();
}

}  // namespace celslm
