// Nodes that the graphs for the CPU and those for a device are both made of.
#pragma once

#include <ggml.h>

#include "model/config.h"

namespace celslm {

// Whether what a block of a layer puts out is added to its input as it is.
inline bool adds_itself(const ModelConfig& config, const ggml_tensor* post_norm) {
  return post_norm == nullptr && config.residual_scale == 1.0F;
}

// Base of the graphs' builders, which set `ctx_` before they add nodes.
class LayerNodes {
 protected:
  explicit LayerNodes(const ModelConfig& config) : c_(config) {}

  // x itself without a weight: the architecture has no norm there.
  ggml_tensor* norm(ggml_tensor* x, ggml_tensor* weight) {
    return weight == nullptr ? x : ggml_mul(ctx_, ggml_rms_norm(ctx_, x, c_.rms_epsilon), weight);
  }
  ggml_tensor* scaled(ggml_tensor* x, float by) { return by == 1.0F ? x : ggml_scale(ctx_, x, by); }
  ggml_tensor* residual(ggml_tensor* added, ggml_tensor* x) { return ggml_add(ctx_, scaled(added, c_.residual_scale), x); }

  // The activation of one half of an MLP times the other.
  ggml_tensor* gated(ggml_tensor* gate, ggml_tensor* up) {
    switch (c_.traits().activation) {
      case Activation::kSilu: return ggml_swiglu_split(ctx_, gate, up);
      case Activation::kGelu: return ggml_geglu_split(ctx_, gate, up);
      case Activation::kClampedSilu: return ggml_swiglu_oai(ctx_, gate, up, kClampedSiluAlpha, kClampedSiluLimit);
    }
    return nullptr;
  }

  // What the output matrix makes of hidden states, as logits.
  ggml_tensor* logits_of(ggml_tensor* products) {
    ggml_tensor* logits = scaled(products, c_.logit_scale);
    if (c_.logit_softcap == 0.0F) return logits;
    return ggml_scale(ctx_, ggml_tanh(ctx_, ggml_scale(ctx_, logits, 1.0F / c_.logit_softcap)), c_.logit_softcap);
  }

  const ModelConfig& c_;
  ggml_context* ctx_ = nullptr;

 private:
  // Of gpt-oss, as libllama has them.
  static constexpr float kClampedSiluAlpha = 1.702F;
  static constexpr float kClampedSiluLimit = 7.0F;
};

}  // namespace celslm
