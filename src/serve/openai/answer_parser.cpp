#include "serve/openai/answer_parser.h"

#include <algorithm>

#include "core/text.h"
#include "serve/openai/call_body.h"

namespace celslm {
namespace {

constexpr std::string_view kBlanks = " \t\n\r";

bool is_blank(char c) {
  return kBlanks.contains(c);
}

// Bytes at the end of the text that may be the beginning of the word.
std::size_t word_tail(std::string_view text, std::string_view word) {
  for (std::size_t n = std::min(text.size(), word.size() - 1); n > 0; --n) {
    if (text.ends_with(word.substr(0, n))) return n;
  }
  return 0;
}

// Bytes at the end of the text that are blank.
std::size_t blank_tail(std::string_view text) {
  return text.size() - (text.find_last_not_of(kBlanks) + 1);
}

void append(AnswerDelta& out, CallDelta delta) {
  if (!out.calls.empty() && out.calls.back().index == delta.index && delta.name.empty()) {
    out.calls.back().arguments += delta.arguments;
  } else {
    out.calls.push_back(std::move(delta));
  }
}

}  // namespace

void AnswerDelta::add(AnswerDelta next) {
  content += next.content;
  reasoning += next.reasoning;
  for (CallDelta& call : next.calls) append(*this, std::move(call));
}

ThoughtSplitter::ThoughtSplitter(const ChatStyle& style, bool begins_inside)
    : open_(style.thoughts_open),
      close_(style.thoughts_close),
      state_(open_.empty()   ? State::kAnswer
             : begins_inside ? State::kInside
                             : State::kBefore) {}

void ThoughtSplitter::add(std::string_view text, std::string& thoughts, std::string& answer) {
  if (state_ == State::kAnswer) {
    answer += text;
    return;
  }
  held_ += text;
  while (step(thoughts, answer)) {
  }
}

// Whether the state changed.
bool ThoughtSplitter::step(std::string& thoughts, std::string& answer) {
  const std::size_t first = std::min(held_.find_first_not_of(kBlanks), held_.size());
  switch (state_) {
    case State::kBefore: {
      const std::string_view shown = std::string_view(held_).substr(first);
      if (shown.size() < open_.size() && open_.starts_with(shown)) return false;
      const bool opens = shown.starts_with(open_);
      if (opens) held_.erase(0, first + open_.size());
      state_ = opens ? State::kInside : State::kAnswer;
      return true;
    }
    case State::kInside: {
      const std::size_t close = held_.find(close_);
      const bool closes = close != std::string::npos;
      std::size_t certain = closes ? close : held_.size() - word_tail(held_, close_);
      certain -= blank_tail(std::string_view(held_).substr(0, certain));
      const std::size_t from = any_ ? 0 : std::min(first, certain);
      thoughts.append(held_, from, certain - from);
      any_ = any_ || certain > from;
      held_.erase(0, closes ? close + close_.size() : certain);
      if (closes) state_ = State::kBehind;
      return closes;
    }
    case State::kBehind:
      held_.erase(0, first);
      if (!held_.empty()) state_ = State::kAnswer;
      return !held_.empty();
    case State::kAnswer: answer += std::exchange(held_, {}); return false;
  }
  return false;
}

void ThoughtSplitter::flush(std::string& thoughts, std::string& answer) {
  if (state_ == State::kInside) {
    thoughts += std::string_view(held_).substr(0, held_.size() - blank_tail(held_));
  } else if (state_ == State::kBefore) {
    answer += held_;
  }
  held_.clear();
}

struct ToolCallParser::Impl final : CallSink {
  Impl(const ChatStyle& chat_style, const ToolUse& tool_use)
      : use(tool_use), format(chat_style.tools), openings(openings_of(format)) {}

  const ToolUse use;
  const ToolFormat format;
  const std::vector<Opening> openings;
  AnswerDelta* out = nullptr;
  std::string blanks;  // held back: what follows may be a call
  std::string word;    // may become an opening
  bool wrote = false;  // text other than blanks, or a call
  std::size_t n_calls = 0;
  std::unique_ptr<CallBody> body;
  std::string raw;  // of a body: what is text if this is no call

  bool knows(std::string_view name) const override { return std::ranges::contains(use.tools, name, &Tool::name); }
  const Tool* tool(std::string_view name) const override {
    const auto it = std::ranges::find(use.tools, name, &Tool::name);
    return it == use.tools.end() ? nullptr : &*it;
  }
  void begin(std::string_view name) override {
    ++n_calls;
    raw.clear();
    wrote = true;
    if (delivers()) append(*out, {.index = n_calls - 1, .name = std::string(name), .arguments = {}});
  }
  void arguments(std::string_view text) override {
    raw.clear();
    if (delivers()) append(*out, {.index = n_calls - 1, .name = {}, .arguments = std::string(text)});
  }
  void commit() override { raw.clear(); }
  bool delivers() const { return n_calls <= (use.parallel ? kMaxCallsInAnswer : 1); }

  void add(char c) {
    if (body) {
      add_to_body(c);
    } else {
      add_text(c);
    }
  }

  void add_text(char c) {
    if (word.empty() && is_blank(c)) {
      blanks += c;
      return;
    }
    word += c;
    while (!word.empty() && !body && !may_open()) {
      out->content += std::exchange(blanks, {});
      out->content += word.front();
      wrote = true;
      word.erase(0, 1);
      const std::size_t n_blank = std::min(word.find_first_not_of(kBlanks), word.size());
      blanks = word.substr(0, n_blank);
      word.erase(0, n_blank);
    }
  }

  // Whether the word is an opening, which is then entered, or may become one. Of two the longer one counts.
  bool may_open() {
    const Opening* found = nullptr;
    for (const Opening& opening : openings) {
      if (opening.only_first && wrote) continue;
      if (opening.word.size() > word.size() && opening.word.starts_with(word)) return true;
      if (word.starts_with(opening.word) && (found == nullptr || opening.word.size() > found->word.size())) found = &opening;
    }
    if (found != nullptr) enter(*found);
    return found != nullptr;
  }

  void enter(const Opening& opening) {
    raw = std::exchange(blanks, {}) + std::string(opening.word);
    const std::string rest = std::exchange(word, {}).substr(opening.word.size());
    body = make_call_body(format, opening);
    if (opening.part_of_call) body->add(opening.word.front(), *this);
    for (const char c : rest) add(c);
  }

  void add_to_body(char c) {
    raw += c;
    end_body(body->add(c, *this));
  }

  void end_body(CallBody::Step step) {
    if (step == CallBody::Step::kMore && raw.size() <= kMaxHeldCallBytes) return;
    body.reset();
    std::string rest = std::exchange(raw, {});
    if (step == CallBody::Step::kEnd) {
      for (const char c : rest) add(c);
      return;
    }
    // No call after all. Its opening must not be found again.
    wrote = wrote || !rest.empty();
    out->content += rest;
  }

  void flush() {
    if (body) end_body(body->finish(*this) ? CallBody::Step::kEnd : CallBody::Step::kRefuse);
    if (n_calls == 0 || !word.empty()) out->content += blanks + word;
    blanks.clear();
    word.clear();
  }
};

ToolCallParser::ToolCallParser(const ChatStyle& style, const ToolUse& use)
    : impl_(use.allowed() ? std::make_unique<Impl>(style, use) : nullptr) {}
ToolCallParser::~ToolCallParser() = default;
ToolCallParser::ToolCallParser(ToolCallParser&&) noexcept = default;

void ToolCallParser::add(std::string_view text, AnswerDelta& out) {
  if (!impl_) {
    out.content += text;
    return;
  }
  impl_->out = &out;
  for (const char c : text) impl_->add(c);
}

void ToolCallParser::flush(AnswerDelta& out) {
  if (!impl_) return;
  impl_->out = &out;
  impl_->flush();
}

bool ToolCallParser::has_calls() const {
  return impl_ && impl_->n_calls > 0;
}

AnswerParser::AnswerParser(const ChatStyle& style, const ToolUse& use, bool in_thoughts, bool keep_thoughts)
    : thoughts_(keep_thoughts ? ChatStyle{} : style, in_thoughts), calls_(style, use) {}

AnswerDelta AnswerParser::add(std::string_view text) {
  AnswerDelta out;
  std::string answer;
  thoughts_.add(text, out.reasoning, answer);
  calls_.add(answer, out);
  return out;
}

AnswerDelta AnswerParser::flush() {
  AnswerDelta out;
  std::string answer;
  thoughts_.flush(out.reasoning, answer);
  calls_.add(answer, out);
  calls_.flush(out);
  return out;
}

}  // namespace celslm
