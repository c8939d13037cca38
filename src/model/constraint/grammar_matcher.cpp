#include "model/constraint/grammar_matcher.h"

#include <llama.h>

#include <exception>
#include <limits>
#include <utility>
#include <vector>

#include "model/text/vocabulary.h"

namespace celslm {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

}  // namespace

TokenPieces::TokenPieces(const Text& text) {
  for (Token token = 0; token < text.n_vocab(); ++token) {
    std::string piece = text.ends_generation(token) ? "" : text.piece(token);
    if (piece.empty()) continue;
    longest_ = std::max(longest_, piece.size());
    by_piece_.try_emplace(std::move(piece), token);
  }
}

std::vector<Token> TokenPieces::spell(std::string_view text) const {
  std::vector<Token> out;
  while (!text.empty()) {
    auto found = by_piece_.end();
    for (std::size_t n = std::min(longest_, text.size()); n > 0 && found == by_piece_.end(); --n)
      found = by_piece_.find(std::string(text.substr(0, n)));
    if (found == by_piece_.end()) return {};
    out.push_back(found->second);
    text.remove_prefix(found->first.size());
  }
  return out;
}

void GrammarMatcher::Deleter::operator()(llama_sampler* sampler) const {
  llama_sampler_free(sampler);
}

GrammarMatcher::GrammarMatcher(const Text& text, const TokenPieces& pieces, Sampler sampler)
    : text_(&text), pieces_(&pieces), grammar_(std::move(sampler)) {}

Result<GrammarMatcher> GrammarMatcher::create(const Text& text, const TokenPieces& pieces, const std::string& grammar) {
  Sampler sampler(llama_sampler_init_grammar(text.impl().vocab, grammar.c_str(), "root"));
  if (!sampler) return fail(ErrorKind::kInvalid, "the grammar does not parse; it must be GBNF with a rule named root");
  return GrammarMatcher(text, pieces, std::move(sampler));
}

bool GrammarMatcher::allows(llama_sampler* grammar, Token token) {
  llama_token_data one{.id = token, .logit = 1.0F, .p = 0.0F};
  llama_token_data_array all{.data = &one, .size = 1, .selected = -1, .sorted = false};
  llama_sampler_apply(grammar, &all);
  return one.logit != kNever;
}

bool GrammarMatcher::offer(Token token) {
  if (token < 0 || token >= text_->n_vocab() || !allows(grammar_.get(), token)) return false;
  llama_sampler_accept(grammar_.get(), token);
  return true;
}

bool GrammarMatcher::offer(std::string_view text) {
  const std::vector<Token> tokens = pieces_->spell(text);
  Sampler before(llama_sampler_clone(grammar_.get()));
  bool fits = !tokens.empty();
  for (auto it = tokens.begin(); fits && it != tokens.end(); ++it) fits = offer(*it);
  if (!fits) grammar_ = std::move(before);
  return fits;
}

TokenMask GrammarMatcher::allowed() const {
  std::vector<llama_token_data> candidates(static_cast<std::size_t>(text_->n_vocab()));
  for (std::size_t i = 0; i < candidates.size(); ++i)
    candidates[i] = {.id = static_cast<Token>(i), .logit = 1.0F, .p = 0.0F};
  llama_token_data_array all{.data = candidates.data(), .size = candidates.size(), .selected = -1, .sorted = false};
  llama_sampler_apply(grammar_.get(), &all);
  TokenMask out(text_->n_vocab());
  for (std::size_t i = 0; i < all.size; ++i) {
    if (all.data[i].logit != kNever) out.add(all.data[i].id);
  }
  return out;
}

}  // namespace celslm
