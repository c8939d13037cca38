#include "model/architecture.h"

#include <algorithm>
#include <array>

namespace celslm {
namespace {

// In the order of the enumeration, which a test compares.
constexpr auto kArchitectures = std::to_array<ArchitectureTraits>({
    {.architecture = Architecture::kLlama, .name = "llama", .factors = FrequencyFactors::kOne},
    {.architecture = Architecture::kQwen2, .name = "qwen2", .neox = true, .partial_rope = true},
    {.architecture = Architecture::kQwen3,
     .name = "qwen3",
     .head_norm = HeadNorm::kBeforeRope,
     .neox = true,
     .partial_rope = true},
    {.architecture = Architecture::kGemma3,
     .name = "gemma3",
     .attn_post_norm = "post_attention_norm",
     .ffn_post_norm = "post_ffw_norm",
     .head_norm = HeadNorm::kBeforeRope,
     .activation = Activation::kGelu,
     .neox = true,
     .window = WindowUse::kOptional,
     .window_period = 6,
     .local_rope_base = 10000.0F,
     .features = feature::kLogitSoftcap,
     .scaled_embeddings = true,
     .wide_score_layers = 62},
    {.architecture = Architecture::kSmolLm3, .name = "smollm3", .no_rope = NoRope::kEveryFourth},
    {.architecture = Architecture::kMistral3,
     .name = "mistral3",
     .factors = FrequencyFactors::kOne,
     .features = feature::kAttentionScale | feature::kTemperature | feature::kYarnLogMultiplier},
    {.architecture = Architecture::kPhi3,
     .name = "phi3",
     .fused = true,
     .neox = true,
     .partial_rope = true,
     .factors = FrequencyFactors::kLongShort,
     .window = WindowUse::kIgnored,
     .features = 0},
    {.architecture = Architecture::kGranite,
     .name = "granite",
     .factors = FrequencyFactors::kOne,
     .no_rope = NoRope::kIfNotFinetuned,
     .features = feature::kAttentionScale | feature::kEmbeddingScale | feature::kResidualScale | feature::kLogitScale},
    {.architecture = Architecture::kErnie45, .name = "ernie4_5", .features = 0},
    {.architecture = Architecture::kHunyuanDense,
     .name = "hunyuan-dense",
     .head_norm = HeadNorm::kAfterRope,
     .neox = true,
     .factors = FrequencyFactors::kOne,
     .features = 0},
    {.architecture = Architecture::kExaone4,
     .name = "exaone4",
     .attn_norm = nullptr,
     .attn_post_norm = "post_attention_norm",
     .ffn_norm = nullptr,
     .ffn_post_norm = "post_ffw_norm",
     .head_norm = HeadNorm::kBeforeRope,
     .neox = true,
     .factors = FrequencyFactors::kOne,
     .no_rope = NoRope::kFullLayers,
     .window = WindowUse::kOptional,
     .window_period = 4,
     .default_window = 4096,
     .window_layers = 64,
     .features = 0},
    {.architecture = Architecture::kQwen3Moe,
     .name = "qwen3moe",
     .head_norm = HeadNorm::kBeforeRope,
     .experts = Experts::kShareOfAll,
     .neox = true,
     .features = 0},
    {.architecture = Architecture::kGptOss,
     .name = "gpt-oss",
     .ffn_norm = "post_attention_norm",
     .activation = Activation::kClampedSilu,
     .experts = Experts::kSoftmaxOfChosen,
     .sinks = true,
     .neox = true,
     .window = WindowUse::kOptional,
     .window_period = 2,
     .features = 0},
    {.architecture = Architecture::kLfm2,
     .name = "lfm2",
     .output_norm = "token_embd_norm",
     .head_norm = HeadNorm::kBeforeRope,
     .recurrence = Recurrence::kShortConv,
     .neox = true,
     .features = 0},
    {.architecture = Architecture::kQwen35,
     .name = "qwen35",
     .ffn_norm = "post_attention_norm",
     .head_norm = HeadNorm::kBeforeRope,
     .recurrence = Recurrence::kDeltaNet,
     .gated_attention = true,
     .neox = true,
     .partial_rope = true,
     .features = feature::kAttentionScale | feature::kRopeSections | feature::kPredictionLayers},
});

}  // namespace

std::span<const ArchitectureTraits> all_architectures() {
  return kArchitectures;
}

const ArchitectureTraits& traits_of(Architecture architecture) {
  return kArchitectures[static_cast<std::size_t>(architecture)];
}

const ArchitectureTraits* find_architecture(std::string_view name) {
  const auto* found = std::ranges::find(kArchitectures, name, &ArchitectureTraits::name);
  return found == kArchitectures.end() ? nullptr : found;
}

const char* to_string(Architecture architecture) {
  return traits_of(architecture).name;
}

}  // namespace celslm
