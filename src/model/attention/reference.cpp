#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "hwy/base.h"
#include "model/attention/attention.h"
#include "model/numeric/q8_0.h"

namespace celslm {
namespace {

double value_at(const KvView& kv, const void* data, std::size_t index) {
  switch (kv.type) {
    case KvType::kF16: return hwy::F32FromF16(static_cast<const hwy::float16_t*>(data)[index]);
    case KvType::kBf16: return hwy::F32FromBF16(static_cast<const hwy::bfloat16_t*>(data)[index]);
    case KvType::kQ8: {
      const auto* block = static_cast<const std::byte*>(data) + index / kQ8Values * kQ8Bytes;
      hwy::float16_t scale;
      hwy::CopyBytes<2>(block, &scale);
      return hwy::F32FromF16(scale) * static_cast<float>(static_cast<std::int8_t>(block[2 + index % kQ8Values]));
    }
    case KvType::kF32: break;
  }
  return static_cast<const float*>(data)[index];
}

// The value of token `token` of the KV head, dimension 0.
std::size_t token_offset(const AttentionArgs& args, const KvView& kv, int kv_head, int token) {
  return (static_cast<std::size_t>(kv_head) * kv.capacity + token) * args.head_dim;
}

double log_mass_at(const KvView& kv, int kv_head, int token) {
  return kv.log_mass == nullptr ? 0.0 : kv.log_mass[static_cast<std::size_t>(kv_head) * kv.capacity + token];
}

// Calls f(kv, token) for all that the row sees, in order.
template <typename F>
void for_each_visible(const AttentionArgs& args, int row, const F& f) {
  for (const AttentionGroup& group : args.groups) {
    const int i = row - group.first_row;
    if (i < 0 || i >= group.n_rows) continue;
    const int visible = std::min(group.visible + i * group.causal, group.kv.capacity);
    for (int token = std::max(0, group.hidden + i * group.sliding); token < visible; ++token) f(group.kv, token);
  }
}

void attend(const AttentionArgs& args, int row, int head) {
  const int kv_head = head / (args.n_heads / args.n_kv_heads);
  const std::size_t at = (static_cast<std::size_t>(row) * args.n_heads + head) * args.head_dim;
  std::vector<double> scores;
  for_each_visible(args, row, [&](const KvView& kv, int token) {
    const std::size_t k = token_offset(args, kv, kv_head, token);
    double dot = 0;
    for (int d = 0; d < args.head_dim; ++d) dot += args.q[at + d] * value_at(kv, kv.k, k + d);
    scores.push_back(dot * args.scale + log_mass_at(kv, kv_head, token));
  });

  const double sink = args.sinks == nullptr ? -std::numeric_limits<double>::infinity() : args.sinks[head];
  const double max = scores.empty() ? 0.0 : std::max(sink, *std::ranges::max_element(scores));
  double sum = std::exp(sink - max);
  for (double& s : scores) sum += s = std::exp(s - max);

  std::vector<double> out(args.head_dim);
  std::size_t next = 0;
  for_each_visible(args, row, [&](const KvView& kv, int token) {
    const std::size_t v = token_offset(args, kv, kv_head, token);
    const double weight = scores[next++] / sum;
    for (int d = 0; d < args.head_dim; ++d) out[d] += weight * value_at(kv, kv.v, v + d);
  });
  std::ranges::transform(out, args.out + at, [](double o) { return static_cast<float>(o); });
}

}  // namespace

void attention_reference(const AttentionArgs& args) {
  for (int row = 0; row < args.n_rows; ++row) {
    for (int head = 0; head < args.n_heads; ++head) attend(args, row, head);
  }
}

}  // namespace celslm
