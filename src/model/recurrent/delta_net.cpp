#include "model/recurrent/delta_net.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

// As for attention: vectors of a length that the compiler does not know bring nothing to heads of a multiple of 16.
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS \
  (HWY_ALL_SVE | HWY_RVV | HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_AVX3_ZEN4 | HWY_AVX3_SPR | HWY_AVX10_2)
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/recurrent/delta_net.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
//
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace celslm::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Lanes = hn::CappedTag<float, 16>;

// One token of one head, all [n]: the state decays; what it has for the key is replaced by `value`, by the share beta; `out`
// is what it then has for the query. state: [n][n].
void delta_step(float* HWY_RESTRICT state, const float* query, const float* key, const float* value, float decay, float beta,
                int n, float* HWY_RESTRICT change, float* HWY_RESTRICT out) {
  const Lanes d;
  const auto size = static_cast<std::size_t>(n);
  const std::size_t step = hn::Lanes(d);
  for (std::size_t j = 0; j < size; j += step) {
    const auto decays = hn::Set(d, decay);
    auto known = hn::Zero(d);
    for (std::size_t i = 0; i < size; ++i) {
      const auto decayed = hn::Mul(hn::LoadU(d, state + i * size + j), decays);
      hn::StoreU(decayed, d, state + i * size + j);
      known = hn::MulAdd(decayed, hn::Set(d, key[i]), known);
    }
    hn::StoreU(hn::Mul(hn::Sub(hn::LoadU(d, value + j), known), hn::Set(d, beta)), d, change + j);
  }
  for (std::size_t j = 0; j < size; j += step) {
    const auto changes = hn::LoadU(d, change + j);
    auto sum = hn::Zero(d);
    for (std::size_t i = 0; i < size; ++i) {
      const auto changed = hn::MulAdd(changes, hn::Set(d, key[i]), hn::LoadU(d, state + i * size + j));
      hn::StoreU(changed, d, state + i * size + j);
      sum = hn::MulAdd(changed, hn::Set(d, query[i]), sum);
    }
    hn::StoreU(sum, d, out + j);
  }
}

}  // namespace celslm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace celslm {
namespace {

HWY_EXPORT(delta_step);

std::size_t at(int row, int width) {
  return static_cast<std::size_t>(row) * static_cast<std::size_t>(width);
}

double sum_of_squares(const float* values, int n) {
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += double{values[i]} * values[i];
  return sum;
}

void scale_to(const float* values, int n, float by, float* out) {
  std::transform(values, values + n, out, [by](float value) { return value * by; });
}

float inverse_length(const float* values, int n, float epsilon) {
  return 1.0F / std::max(static_cast<float>(std::sqrt(sum_of_squares(values, n))), epsilon);
}

float softplus(float x) {
  constexpr float kLinearFrom = 20.0F;
  return x > kLinearFrom ? x : std::log(1.0F + std::exp(x));
}

float sigmoid(float x) {
  return 1.0F / (1.0F + std::exp(-x));
}

// The head's output for one token, normed and gated.
void finish(const DeltaNetArgs& args, const float* gate, float* out) {
  const int n = args.head_dim;
  const double mean = sum_of_squares(out, n) / n;
  const auto scale = static_cast<float>(1.0 / std::sqrt(mean + args.epsilon));
  for (int j = 0; j < n; ++j) out[j] = out[j] * scale * args.norm[j] * (gate[j] * sigmoid(gate[j]));
}

}  // namespace

void delta_net(const DeltaNetArgs& args, int first, int last, std::vector<float>& scratch) {
  const int n = args.head_dim;
  const std::size_t state_size = at(n, n);
  const int width = (2 * args.n_key_heads + args.n_value_heads) * n;
  scratch.resize(at(3, n));
  float* const query = scratch.data();
  float* const key = query + n;
  float* const change = key + n;
  for (int head = first; head < last; ++head) {
    float* const state = args.after + static_cast<std::size_t>(head) * state_size;
    if (args.before == nullptr) {
      std::fill_n(state, state_size, 0.0F);
    } else if (args.before != args.after) {
      std::copy_n(args.before + static_cast<std::size_t>(head) * state_size, state_size, state);
    }
    for (int token = 0; token < args.n_tokens; ++token) {
      const float* row = args.qkv + at(token, width);
      const float* q = row + at(head % args.n_key_heads, n);
      const float* k = q + at(args.n_key_heads, n);
      const float* v = row + at(2 * args.n_key_heads + head, n);
      scale_to(q, n, inverse_length(q, n, args.epsilon) / std::sqrt(static_cast<float>(n)), query);
      scale_to(k, n, inverse_length(k, n, args.epsilon), key);
      const std::size_t of_token = at(token, args.n_value_heads) + static_cast<std::size_t>(head);
      const float decay = std::exp(softplus(args.alpha[of_token] + args.alpha_bias[head]) * args.decay[head]);
      float* out = args.out + of_token * static_cast<std::size_t>(n);
      HWY_DYNAMIC_DISPATCH(delta_step)(state, query, key, v, decay, sigmoid(args.beta[of_token]), n, change, out);
      finish(args, args.gate + of_token * static_cast<std::size_t>(n), out);
    }
  }
}

}  // namespace celslm
#endif
