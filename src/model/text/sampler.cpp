#include "model/text/sampler.h"

#include <algorithm>
#include <cmath>

#include "model/numeric/logits.h"
#include "model/text/vocabulary.h"

namespace celslm {
namespace {

constexpr int kMaxPenaltyWindow = 1 << 16;  // tokens

struct SamplerDeleter {
  void operator()(llama_sampler* sampler) const { llama_sampler_free(sampler); }
};
using SamplerPtr = std::unique_ptr<llama_sampler, SamplerDeleter>;

Status in_range(const char* name, float value, float low, float high) {
  if (value >= low && value <= high) return {};
  return fail(ErrorKind::kInvalid, "{} is {}; {} to {} are accepted", name, value, low, high);
}

Status check(const SamplerOptions& o) {
  CELSLM_CHECK_OK(in_range("temperature", o.temperature, 0.0F, 100.0F));
  CELSLM_CHECK_OK(in_range("top_p", o.top_p, 0.0F, 1.0F));
  CELSLM_CHECK_OK(in_range("min_p", o.min_p, 0.0F, 1.0F));
  CELSLM_CHECK_OK(in_range("repeat_penalty", o.repeat_penalty, 0.01F, 100.0F));
  CELSLM_CHECK_OK(in_range("frequency_penalty", o.frequency_penalty, -100.0F, 100.0F));
  CELSLM_CHECK_OK(in_range("presence_penalty", o.presence_penalty, -100.0F, 100.0F));
  if (o.top_k < 0) return fail(ErrorKind::kInvalid, "top_k is {}; 0 turns it off", o.top_k);
  if (o.penalty_last_n < 0 || o.penalty_last_n > kMaxPenaltyWindow) {
    return fail(ErrorKind::kInvalid, "penalty_last_n is {}; 0 to {} are accepted", o.penalty_last_n, kMaxPenaltyWindow);
  }
  return {};
}

Status check_bias(const SamplerOptions& o, int n_vocab) {
  for (const auto& [token, bias] : o.logit_bias) {
    if (token < 0 || token >= n_vocab)
      return fail(ErrorKind::kInvalid, "'logit_bias' has the token id {}: ids must be from 0 to {}", token, n_vocab - 1);
    CELSLM_CHECK_OK(in_range("logit_bias", bias, -100.0F, 100.0F));
  }
  return {};
}

bool penalizes(const SamplerOptions& o) {
  return o.penalty_last_n > 0 && (o.repeat_penalty != 1.0F || o.frequency_penalty != 0.0F || o.presence_penalty != 0.0F);
}

bool is_greedy(const SamplerOptions& o) {
  return o.temperature < kLeastTemperature;
}

SamplerPtr make_chain(const SamplerOptions& o, int n_vocab) {
  SamplerPtr chain(llama_sampler_chain_init(llama_sampler_chain_default_params()));
  const auto add = [&](llama_sampler* s) { llama_sampler_chain_add(chain.get(), s); };
  if (!o.logit_bias.empty()) {
    std::vector<llama_logit_bias> biases;
    biases.reserve(o.logit_bias.size());
    for (const auto& [token, bias] : o.logit_bias) biases.push_back({.token = token, .bias = bias});
    add(llama_sampler_init_logit_bias(n_vocab, static_cast<int>(biases.size()), biases.data()));
  }
  if (penalizes(o)) {
    add(llama_sampler_init_penalties(n_vocab, o.penalty_last_n, o.repeat_penalty, o.frequency_penalty, o.presence_penalty));
  }
  if (is_greedy(o)) {
    add(llama_sampler_init_greedy());
    return chain;
  }
  if (o.top_k > 0) add(llama_sampler_init_top_k(o.top_k));
  if (o.top_p < 1.0F) add(llama_sampler_init_top_p(o.top_p, 1));
  if (o.min_p > 0.0F) add(llama_sampler_init_min_p(o.min_p, 1));
  add(llama_sampler_init_temp(o.temperature));
  // libllama takes this one value for "a random seed".
  add(llama_sampler_init_dist(o.seed == LLAMA_DEFAULT_SEED ? LLAMA_DEFAULT_SEED - 1 : o.seed));
  return chain;
}

}  // namespace

std::vector<TokenLogprob> most_probable(std::span<const float> logits, int n, float log_sum) {
  std::vector<TokenLogprob> all(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) all[i] = {.token = static_cast<Token>(i), .logprob = logits[i] - log_sum};
  const std::size_t count = std::min(static_cast<std::size_t>(n), all.size());
  const auto better = [](const TokenLogprob& a, const TokenLogprob& b) { return a.logprob > b.logprob; };
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count), all.end(), better);
  all.resize(count);
  return all;
}

Token end_token(const Text& text) {
  const llama_vocab* vocab = text.impl().vocab;
  const Token eot = llama_vocab_eot(vocab);
  return eot >= 0 ? eot : std::max(0, llama_vocab_eos(vocab));
}

struct Sampler::Impl {
  bool plain_greedy = false;  // the largest logit, nothing else: needs no candidates
  SamplerPtr chain;
  std::vector<llama_token_data> candidates;

  void fill(std::span<const float> logits) {
    candidates.resize(logits.size());
    for (std::size_t i = 0; i < logits.size(); ++i)
      candidates[i] = {.id = static_cast<Token>(i), .logit = logits[i], .p = 0.0F};
  }
};

Result<Sampler> Sampler::create(const Text& text, const SamplerOptions& options) {
  CELSLM_CHECK_OK(check(options));
  CELSLM_CHECK_OK(check_bias(options, text.n_vocab()));
  auto impl = std::make_unique<Impl>();
  impl->chain = make_chain(options, text.n_vocab());
  impl->plain_greedy = is_greedy(options) && !penalizes(options) && options.logit_bias.empty();
  return Sampler(std::move(impl));
}

Sampler::Sampler(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Sampler::~Sampler() = default;
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;

Token Sampler::choose(std::span<const float> logits) {
  if (impl_->plain_greedy) return static_cast<Token>(argmax(logits));
  impl_->fill(logits);
  llama_token_data_array all{
      .data = impl_->candidates.data(), .size = impl_->candidates.size(), .selected = -1, .sorted = false};
  llama_sampler_apply(impl_->chain.get(), &all);
  return all.data[std::max<std::int64_t>(all.selected, 0)].id;
}

void Sampler::accept(Token token) {
  if (!impl_->plain_greedy) llama_sampler_accept(impl_->chain.get(), token);
}

Sampled Sampler::described(Token token, std::span<const float> logits, int n_top) {
  const float log_sum = log_sum_exp(logits);
  Sampled out{.token = token, .logprob = logits[static_cast<std::size_t>(token)] - log_sum};
  if (n_top > 0) out.top = most_probable(logits, n_top, log_sum);
  return out;
}

Sampled Sampler::sample(std::span<const float> logits, int n_top) {
  const Token token = choose(logits);
  accept(token);
  return described(token, logits, n_top);
}

}  // namespace celslm
