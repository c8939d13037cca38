#include "model/kv/rope.h"

#include <ggml.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace celslm {
namespace {

// YaRN (arXiv 2309.00071, section 3.2): the pair whose wave turns `turns` times within the original context.
float pair_turning(const RopeConfig& c, float turns) {
  const float full = static_cast<float>(c.original_context) / (turns * 2.0F * std::numbers::pi_v<float>);
  return static_cast<float>(c.dimensions) * std::log(full) / (2.0F * std::log(c.base));
}

}  // namespace

Rope::Rope(const RopeConfig& config, const ggml_tensor* factors)
    : config_(config), theta_scale_(std::pow(config.base, -2.0F / static_cast<float>(std::max(1, config.dimensions)))) {
  if (factors != nullptr) {
    const auto* values = static_cast<const float*>(factors->data);
    factors_.assign(values, values + config.dimensions / 2);
  }
  if (config.yarn_ext_factor != 0.0F && config.dimensions > 0) {
    ramp_low_ = std::max(0.0F, std::floor(pair_turning(config, config.yarn_beta_fast)));
    ramp_high_ = std::min(static_cast<float>(config.dimensions - 1), std::ceil(pair_turning(config, config.yarn_beta_slow)));
  }
}

// The angle is carried from pair to pair in f32, as ggml does, so that both agree to the last bits at far positions.
void Rope::angles(int position, std::span<float> cos, std::span<float> sin) const {
  const float scale = 1.0F / config_.factor;
  const bool yarn = config_.yarn_ext_factor != 0.0F;
  const float magnitude = config_.yarn_attn_factor * (yarn ? 1.0F + 0.1F * std::log(1.0F / scale) : 1.0F);
  auto theta = static_cast<float>(position);
  for (std::size_t i = 0; i < cos.size(); ++i) {
    const float own = factors_.empty() ? theta : theta / factors_[i];
    float angle = scale * own;
    if (yarn) {
      const float along = (static_cast<float>(i) - ramp_low_) / std::max(0.001F, ramp_high_ - ramp_low_);
      const float keep = (1.0F - std::clamp(along, 0.0F, 1.0F)) * config_.yarn_ext_factor;
      angle = angle * (1.0F - keep) + own * keep;
    }
    cos[i] = std::cos(angle) * magnitude;
    sin[i] = std::sin(angle) * magnitude;
    theta *= theta_scale_;
  }
}

void Rope::rotate(std::span<const float> in, RopeAngles angles, float* out) const {
  const int n = n_pairs();
  const float* x = in.data();
  if (config_.neox) {
    for (int i = 0; i < n; ++i) out[i] = x[i] * angles.cos[i] - x[i + n] * angles.sin[i];
    for (int i = 0; i < n; ++i) out[i + n] = x[i] * angles.sin[i] + x[i + n] * angles.cos[i];
  } else {
    for (int i = 0; i < n; ++i) {
      out[2 * i] = x[2 * i] * angles.cos[i] - x[2 * i + 1] * angles.sin[i];
      out[2 * i + 1] = x[2 * i] * angles.sin[i] + x[2 * i + 1] * angles.cos[i];
    }
  }
  std::copy(in.begin() + 2 * n, in.end(), out + 2 * n);
}

void RopeTable::fill(const Rope& rope, std::span<const int> positions) {
  const auto n = static_cast<std::size_t>(rope.n_pairs());
  if (stride_ == 2 * n && std::ranges::equal(positions, positions_)) return;
  stride_ = 2 * n;
  positions_.assign(positions.begin(), positions.end());
  values_.resize(positions.size() * stride_);
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const std::span row(values_.data() + i * stride_, stride_);
    rope.angles(positions[i], row.first(n), row.last(n));
  }
}

}  // namespace celslm
