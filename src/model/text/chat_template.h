// The chat template that a model's file carries: a program in Jinja that writes a conversation as the model expects it.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "model/text/text.h"

namespace celslm {

// Rendered by minja; its types and exceptions stay in the source file. The variables are those that llama.cpp passes:
// messages, tools, add_generation_prompt, bos_token, eos_token, enable_thinking, date_string, datetime, strftime_now(). The
// date is always 26 July 2024: what two boxes render must be equal, and a context's KV must hold for longer than a day.
//
// Immutable; all members are thread-safe.
class ChatTemplate {
 public:
  // kInvalid if the source does not parse, is refused (read_template_source), or does not write a user's message.
  static Result<std::unique_ptr<const ChatTemplate>> create(std::string_view source, std::string bos, std::string eos);
  ~ChatTemplate();
  ChatTemplate(const ChatTemplate&) = delete;
  ChatTemplate& operator=(const ChatTemplate&) = delete;

  // The conversation as text; with `answer`, to where the assistant's answer begins. As in llama.cpp, the role "developer"
  // is "system", and where the template knows no system message, a first one is put before the next message's content.
  // What else it does not know (tools, their calls and results) is written as template_messages.h describes.
  // kInvalid if the template refuses the conversation, or takes too many steps, too much stack or too much text.
  Result<std::string> render(std::span<const ChatMessage> messages, bool answer, const ChatOptions& options = {}) const;

  const ChatStyle& style() const;

  // The strings in its code.
  const std::vector<std::string>& literals() const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace celslm
