// Tokenizer, through libllama's vocabulary API, and the model's chat template.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "model/config.h"
#include "model/text/tool_format.h"

namespace celslm {

// An assistant's call of a tool.
struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments;  // a JSON object as text; what a model wrote may be something else
};

struct ChatMessage {
  std::string role;  // "system", "user", "assistant", "tool", or another role that the template handles
  std::string content;
  std::string reasoning;             // an assistant's thoughts before its answer
  std::vector<ToolCall> tool_calls;  // an assistant's
  std::string tool_call_id;          // of a tool's result: the call that it belongs to
};

struct ChatOptions {
  std::string tools;     // definitions: a JSON array as in the OpenAI API; empty: none
  bool thinking = true;  // for templates that can have a model answer without thoughts
};

// Immutable; all members are thread-safe.
class Text {
 public:
  // chat_template: instead of the file's own. One that cannot be used is no error here: chat_problem() tells.
  static Result<std::unique_ptr<const Text>> load(const std::filesystem::path& gguf,
                                                  const std::optional<std::string>& chat_template = {});
  ~Text();
  Text(const Text&) = delete;
  Text& operator=(const Text&) = delete;

  int n_vocab() const;
  // `special`: whether control tokens spelled out in the text become control tokens. Text from users is tokenized with
  // special = false, so that a user cannot close a turn by writing the template's words.
  std::vector<Token> tokenize(std::string_view text, bool add_bos, bool special) const;
  std::string piece(Token token, bool special = false) const;  // bytes; may be part of a UTF-8 character
  std::string detokenize(std::span<const Token> tokens, bool special = false) const;
  bool ends_generation(Token token) const;
  bool adds_bos() const;

  // Why chat() and context() refuse everything with this model; empty if they do not.
  const std::string& chat_problem() const;
  // The tokens of a conversation as the model's own template writes it, up to where the assistant's answer begins: those of
  // llama-server, except that contents cannot spell control tokens. kInvalid when the template refuses the conversation, or
  // treats those of its contents' characters that a control token could begin or end with unlike others.
  Result<std::vector<Token>> chat(std::span<const ChatMessage> messages, const ChatOptions& options = {}) const;
  // How this model writes what is not plain text. Without chat template: no thoughts, generic calls.
  const ChatStyle& chat_style() const;
  // The token that a word is, if it is one token and that token is no text (piece() without `special` shows nothing).
  std::optional<Token> hidden_token(std::string_view word) const;
  // The first tokens of the chats that start with this system message and a user's message: the shared context. It ends on a
  // boundary that no tokenization crosses, so that no user's text can change it. kInvalid as chat(), and when nothing of the
  // system message comes before such a boundary. A template may treat some conversations otherwise (it may write the system
  // message into the last user's turn): compare before use.
  Result<std::vector<Token>> context(std::string_view system_text) const;

  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  explicit Text(std::unique_ptr<Impl> impl);
  void set_chat_template(std::string_view source);

  std::unique_ptr<Impl> impl_;
};

}  // namespace celslm
