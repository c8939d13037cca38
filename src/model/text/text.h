// Tokenizer and chat template, through libllama's vocabulary API.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "model/config.h"

namespace celslm {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant", or another role that the template handles
  std::string content;
};

// Immutable; all members are thread-safe.
class Text {
 public:
  static Result<std::unique_ptr<const Text>> load(const std::filesystem::path& gguf);
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

  // The tokens of a conversation, each message's content tokenized apart from the template's own words (special = false for
  // contents), up to where the assistant's answer begins. kInvalid when the model carries no template that is known here.
  Result<std::vector<Token>> chat(std::span<const ChatMessage> messages) const;
  // The first tokens of every chat() that starts with this system message: the shared context. It ends where the user's turn
  // begins, on a boundary that no tokenization crosses.
  Result<std::vector<Token>> context(std::string_view system_text) const;

  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  explicit Text(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace celslm
