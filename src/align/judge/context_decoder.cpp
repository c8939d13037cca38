#include "align/judge/context_decoder.h"

#include <algorithm>
#include <cmath>

#include "align/map/index_range.h"
#include "model/numeric/logits.h"

namespace celslm {
namespace {

// In double, because small differences of these values are reported.
double log_sum_exp_double(std::span<const float> logits) {
  const double largest = std::ranges::max(logits);
  double sum = 0.0;
  for (const float l : logits) sum += std::exp(l - largest);
  return largest + std::log(sum);
}

}  // namespace

Result<std::shared_ptr<KvSegment>> ContextDecoder::create_segment(int first_position, std::size_t tokens) {
  return KvSegment::create(engine_.model().config(), KvType::kF16, first_position, static_cast<int>(tokens));
}

Result<std::vector<float>> ContextDecoder::forced_logits(const std::shared_ptr<const KvSegment>& context,
                                                         std::span<const Token> tokens) {
  CELSLM_TRY(auto own, create_segment(context->next_position(), tokens.size()));
  const SequenceChunk chunk{.context = context, .own = std::move(own), .n_tokens = static_cast<int>(tokens.size())};
  CELSLM_TRY(Hidden hidden, engine_.embed(tokens));
  CELSLM_CHECK_OK(engine_.run_layers(0, engine_.model().config().n_layers, {&chunk, 1}, hidden));
  CELSLM_TRY(const auto logits, engine_.logits(hidden, index_range(static_cast<int>(tokens.size()))));
  return std::vector<float>(logits.begin(), logits.end());
}

Result<std::vector<Token>> ContextDecoder::greedy(const std::shared_ptr<const KvSegment>& context,
                                                  std::span<const Token> prompt, int limit) {
  CELSLM_TRY(const auto own, create_segment(context->next_position(), prompt.size() + static_cast<std::size_t>(limit)));
  std::vector<Token> out;
  std::vector<Token> next(prompt.begin(), prompt.end());
  while (out.size() < static_cast<std::size_t>(limit)) {
    const SequenceChunk chunk{
        .context = context, .own = own, .own_length = own->length(), .n_tokens = static_cast<int>(next.size())};
    CELSLM_TRY(const auto logits, engine_.forward(next, {&chunk, 1}));
    next = {static_cast<Token>(argmax(logits))};
    out.push_back(next[0]);
    if (engine_.model().text().ends_generation(next[0])) break;
  }
  return out;
}

double kl_divergence(std::span<const float> exact, std::span<const float> other) {
  const double exact_norm = log_sum_exp_double(exact);
  const double other_norm = log_sum_exp_double(other);
  double out = 0.0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const double p = exact[i] - exact_norm;
    out += std::exp(p) * (p - (other[i] - other_norm));
  }
  return out;
}

double negative_log_likelihood(std::span<const float> logits, Token token) {
  return log_sum_exp_double(logits) - logits[static_cast<std::size_t>(token)];
}

}  // namespace celslm
