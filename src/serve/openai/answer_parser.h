// What a model writes, taken apart while it comes: thoughts, text and calls of tools, in the format of its family.
//
// The text comes from a model and may be anything: what does not have the form of a call of one of the request's tools stays
// text. What comes out does not depend on how the text was cut into pieces.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/text/tool_format.h"
#include "serve/openai/tools.h"

namespace celslm {

// Limits, each with what it stops.
inline constexpr std::size_t kMaxCallsInAnswer = 128;         // an answer of calls only
inline constexpr std::size_t kMaxHeldCallBytes = 256U << 10;  // text held back that looks like a call

// A piece of a call. The first of each index has its name, and no arguments may come.
struct CallDelta {
  std::size_t index = 0;
  std::string name;
  std::string arguments;  // JSON, to be appended
};

struct AnswerDelta {
  std::string content;
  std::string reasoning;
  std::vector<CallDelta> calls;
  bool empty() const { return content.empty() && reasoning.empty() && calls.empty(); }
  // Appends what came next.
  void add(AnswerDelta next);
};

// Thoughts at the beginning of an answer, between the tags of the style; without tags all is answer. Blanks around thoughts
// are dropped. Not thread-safe.
class ThoughtSplitter {
 public:
  explicit ThoughtSplitter(const ChatStyle& style, bool begins_inside);

  // Appends what is certain.
  void add(std::string_view text, std::string& thoughts, std::string& answer);
  void flush(std::string& thoughts, std::string& answer);

 private:
  enum class State { kBefore, kInside, kBehind, kAnswer };
  bool step(std::string& thoughts, std::string& answer);

  const std::string open_;
  const std::string close_;
  State state_;
  bool any_ = false;  // thoughts were shown, so that blanks are between words
  std::string held_;
};

// Calls within the text that is not thought. Not thread-safe.
class ToolCallParser {
 public:
  // Without tools all is text.
  ToolCallParser(const ChatStyle& style, const ToolUse& use);
  ~ToolCallParser();
  ToolCallParser(ToolCallParser&&) noexcept;

  void add(std::string_view text, AnswerDelta& out);
  void flush(AnswerDelta& out);
  bool has_calls() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Both. Not thread-safe.
class AnswerParser {
 public:
  // in_thoughts: the prompt opened them. keep_thoughts: they stay in the text.
  AnswerParser(const ChatStyle& style, const ToolUse& use, bool in_thoughts, bool keep_thoughts = false);

  // UTF-8 in, UTF-8 out.
  AnswerDelta add(std::string_view text);
  // What is left at the end. A call that the answer's end cut off is text, or has arguments that end early.
  AnswerDelta flush();
  bool has_calls() const { return calls_.has_calls(); }

 private:
  ThoughtSplitter thoughts_;
  ToolCallParser calls_;
};

}  // namespace celslm
