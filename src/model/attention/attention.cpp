#include "model/attention/attention.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "hwy/base.h"

namespace celslm {
namespace {

float value_at(const KvView& kv, const void* data, std::size_t index) {
  switch (kv.type) {
    case KvType::kF16: return hwy::F32FromF16(static_cast<const hwy::float16_t*>(data)[index]);
    case KvType::kBf16: return hwy::F32FromBF16(static_cast<const hwy::bfloat16_t*>(data)[index]);
    case KvType::kF32: break;
  }
  return static_cast<const float*>(data)[index];
}

struct Running {
  float max = std::numeric_limits<float>::lowest();
  float sum = 0;
};

void attend_one(const AttentionArgs& args, const KvView& kv, std::size_t token, const float* q, float* out, Running& state) {
  float score = 0;
  for (int d = 0; d < args.head_dim; ++d) score += q[d] * value_at(kv, kv.k, token + d);
  score *= args.scale;
  const float max = std::max(state.max, score);
  const float correction = std::exp(state.max - max);
  const float p = std::exp(score - max);
  for (int d = 0; d < args.head_dim; ++d) out[d] = out[d] * correction + p * value_at(kv, kv.v, token + d);
  state = {max, state.sum * correction + p};
}

void attend(const AttentionArgs& args, int row, int head) {
  const int kv_head = head / (args.n_heads / args.n_kv_heads);
  const std::size_t at = (static_cast<std::size_t>(row) * args.n_heads + head) * args.head_dim;
  float* out = args.out + at;
  std::fill_n(out, args.head_dim, 0.0F);
  Running state;
  for (const AttentionGroup& group : args.groups) {
    const int i = row - group.first_row;
    if (i < 0 || i >= group.n_rows) continue;
    const int visible = std::clamp(group.visible + i * group.causal, 0, group.kv.capacity);
    for (int token = 0; token < visible; ++token) {
      const std::size_t first = (static_cast<std::size_t>(kv_head) * group.kv.capacity + token) * args.head_dim;
      attend_one(args, group.kv, first, args.q + at, out, state);
    }
  }
  if (state.sum > 0) std::transform(out, out + args.head_dim, out, [&](float o) { return o / state.sum; });
}

}  // namespace

void attention(const AttentionArgs& args, int ith, int nth, AttentionScratch& /*scratch*/) {
  const int units = args.n_rows * args.n_heads;
  for (int unit = ith; unit < units; unit += nth) attend(args, unit / args.n_heads, unit % args.n_heads);
}

}  // namespace celslm
