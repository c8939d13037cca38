// The text of ModelFingerprint::rope. Other texts are other models: what is here may be added to for models that have
// something new, and never be written in another way.
#include <algorithm>
#include <cmath>
#include <format>
#include <string>

#include "model/gguf/gguf_metadata.h"

namespace celslm {
namespace {

// std::format, not fmt: they write a base of 500,000 as "5e+05" and "500000", and the models' ids hang on it.
std::string text_of(const RopeConfig& r) {
  return std::format("{} {} base {} scaling {} {} of {} ext {} attn {} beta {} {} factors {}", r.neox ? "neox" : "norm",
                     r.dimensions, r.base, static_cast<int>(r.scaling), r.factor, r.original_context, r.yarn_ext_factor,
                     r.yarn_attn_factor, r.yarn_beta_fast, r.yarn_beta_slow, r.has_frequency_factors);
}

// A letter for each layer's RoPE, a capital where it has a window, an s where it is recurrent; of the shortest stretch that
// the layers repeat.
std::string pattern_of(const std::vector<LayerTraits>& layers) {
  std::string out;
  for (const LayerTraits& layer : layers) {
    const char letter = layer.state_values > 0 ? 's' : "gln"[static_cast<std::size_t>(layer.rope)];
    out += layer.window > 0 ? static_cast<char>(letter - 'a' + 'A') : letter;
  }
  for (std::size_t n = 1; n < out.size(); ++n) {
    if (std::equal(out.begin() + static_cast<std::ptrdiff_t>(n), out.end(), out.begin())) return out.substr(0, n);
  }
  return out;
}

int window_of(const std::vector<LayerTraits>& layers) {
  return layers.empty() ? 0 : std::ranges::max(layers, {}, &LayerTraits::window).window;
}

}  // namespace

std::string canonical_text(const ModelConfig& config) {
  std::string out = text_of(config.rope);
  const std::string pattern = pattern_of(config.layers);
  if (pattern != "g") out += std::format(" layers {} window {}", pattern, window_of(config.layers));
  const auto uses_local = [](const LayerTraits& layer) { return layer.rope == RopeUse::kLocal; };
  if (std::ranges::any_of(config.layers, uses_local)) out += " local " + text_of(config.local_rope);
  if (config.traits().factors == FrequencyFactors::kLongShort) out += config.long_factors ? " long" : " short";
  if (config.attention_scale != 1.0F / std::sqrt(static_cast<float>(config.head_dim)))
    out += std::format(" scores {}", config.attention_scale);
  if (config.temperature.scale != 0.0F)
    out += std::format(" temperature {} every {}", config.temperature.scale, config.temperature.step);
  if (config.has_states()) out += std::format(" states of {} tokens", config.recurrence.conv_tokens);
  if (config.experts.n > 0) out += std::format(" experts {}", config.experts.n_used);
  if (config.embedding_scale != 1.0F) out += std::format(" embeddings {}", config.embedding_scale);
  if (config.residual_scale != 1.0F) out += std::format(" residuals {}", config.residual_scale);
  if (config.logit_scale != 1.0F) out += std::format(" logits {}", config.logit_scale);
  if (config.logit_softcap != 0.0F) out += std::format(" softcap {}", config.logit_softcap);
  // Ids of these three are older than this.
  if (config.architecture > Architecture::kQwen3) out += std::format(" epsilon {}", config.rms_epsilon);
  return out;
}

}  // namespace celslm
