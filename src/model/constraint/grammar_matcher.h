// libllama's GBNF engine over one vocabulary. It may throw, end the process, run on and take any memory: constraint_child.h
// runs it where that harms nobody.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "core/result.h"
#include "model/constraint/token_mask.h"
#include "model/text/text.h"

struct llama_sampler;

namespace celslm {

// Tokens by their bytes: how a text is given to a grammar, which knows tokens only. Immutable.
class TokenPieces {
 public:
  explicit TokenPieces(const Text& text);
  // The tokens of a text, the longest piece first. They are not those that the tokenizer gives; to a grammar they are the
  // same. Empty where a byte of it is in no token.
  std::vector<Token> spell(std::string_view text) const;

 private:
  std::unordered_map<std::string, Token> by_piece_;
  std::size_t longest_ = 0;
};

// Text and pieces must outlive it. One thread.
class GrammarMatcher {
 public:
  // kInvalid for what does not parse.
  static Result<GrammarMatcher> create(const Text& text, const TokenPieces& pieces, const std::string& grammar);

  // Whether the token may come next; if so, it does.
  bool offer(Token token);
  // Whether the tokens that spell this text may come next; if so, they do.
  bool offer(std::string_view text);
  TokenMask allowed() const;

 private:
  struct Deleter {
    void operator()(llama_sampler* sampler) const;
  };
  using Sampler = std::unique_ptr<llama_sampler, Deleter>;
  GrammarMatcher(const Text& text, const TokenPieces& pieces, Sampler sampler);
  static bool allows(llama_sampler* grammar, Token token);

  const Text* text_;
  const TokenPieces* pieces_;
  Sampler grammar_;
};

}  // namespace celslm
