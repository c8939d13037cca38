// The architectures that this engine has graphs for, as data: what the layers of each are made of beside what all share.
// The config reader, the weights loader and the graph builder read it, so that another architecture is a row and a test.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace celslm {

enum class Architecture : std::uint8_t {
  kLlama,
  kQwen2,
  kQwen3,
  kGemma3,
  kSmolLm3,
  kMistral3,
  kPhi3,
  kGranite,
  kErnie45,
  kHunyuanDense,
  kExaone4,
  kQwen3Moe,
  kGptOss,
  kLfm2,
  kQwen35,
};

// Where each head of Q and K is divided by its root mean square and multiplied by weights.
enum class HeadNorm : std::uint8_t { kNone, kBeforeRope, kAfterRope };

// Of the gate's half of the MLP. kClampedSilu: with the constants of gpt-oss.
enum class Activation : std::uint8_t { kSilu, kGelu, kClampedSilu };

// What recurrent layers have in the place of attention. They keep a state of fixed size instead of rows of K and V.
enum class Recurrence : std::uint8_t {
  kNone,       // every layer has attention
  kShortConv,  // a gated convolution over a few tokens
  kDeltaNet,   // a gated delta net behind such a convolution
};

// How much weight the chosen experts of an MLP get.
enum class Experts : std::uint8_t {
  kNone,             // there is one MLP
  kShareOfAll,       // softmax over all experts' scores, the chosen ones' shares made to sum up to 1
  kSoftmaxOfChosen,  // softmax over the scores of the chosen ones
};

enum class FrequencyFactors : std::uint8_t {
  kNone,
  kOne,        // rope_freqs.weight, where the file has it
  kLongShort,  // rope_factors_long.weight and rope_factors_short.weight, where the file has them
};

// Which layers leave Q and K as they are.
enum class NoRope : std::uint8_t {
  kNever,
  kEveryFourth,    // the last of each four
  kFullLayers,     // in models with a sliding window: those without one
  kIfNotFinetuned  // all, where rope.scaling.finetuned is false
};

enum class WindowUse : std::uint8_t {
  kNone,
  kOptional,  // where the file gives one
  kIgnored,   // the file's is that of its training; libllama reads all keys, and so do we
};

// Metadata that changes what graphs compute, and that some architectures read. Of the others it is refused.
namespace feature {
inline constexpr unsigned kAttentionScale = 1U << 0;
inline constexpr unsigned kEmbeddingScale = 1U << 1;
inline constexpr unsigned kResidualScale = 1U << 2;
inline constexpr unsigned kLogitScale = 1U << 3;
inline constexpr unsigned kLogitSoftcap = 1U << 4;
inline constexpr unsigned kTemperature = 1U << 5;
inline constexpr unsigned kYarnLogMultiplier = 1U << 6;
inline constexpr unsigned kRopeSections = 1U << 7;
inline constexpr unsigned kPredictionLayers = 1U << 8;  // which are left out: they guess tokens that others compute
}  // namespace feature

// A row of the table. What is not named in a row is as in a Llama: RMS norms before attention and before the MLP; Q, K and V
// with optional biases; RoPE in every layer, over pairs (2i, 2i + 1) unless `neox`; SwiGLU; an output head that may be the
// token embedding.
struct ArchitectureTraits {
  Architecture architecture = Architecture::kLlama;
  const char* name = "";  // as in GGUF's general.architecture; its keys begin with it

  const char* output_norm = "output_norm";  // the tensor in front of the output head
  // Tensors of a layer, "blk.<layer>.<name>.weight"; null: there is none.
  const char* attn_norm = "attn_norm";   // of what goes into attention
  const char* attn_post_norm = nullptr;  // of what comes out, before it is added
  const char* ffn_norm = "ffn_norm";     // of what goes into the MLP
  const char* ffn_post_norm = nullptr;   // of what comes out
  HeadNorm head_norm = HeadNorm::kNone;
  Recurrence recurrence = Recurrence::kNone;  // of the layers that the file says are recurrent
  bool gated_attention = false;               // attn_q has, behind each head, a gate of what the head puts out
  bool fused = false;                         // Q, K and V may be one tensor, attn_qkv; ffn_up begins with the gate's rows
  Activation activation = Activation::kSilu;
  Experts experts = Experts::kNone;
  bool sinks = false;  // each head has one: a score that takes weight and has no value

  bool neox = false;          // RoPE turns the pairs (i, i + n/2)
  bool partial_rope = false;  // RoPE may turn fewer than all dimensions of a head
  FrequencyFactors factors = FrequencyFactors::kNone;
  NoRope no_rope = NoRope::kNever;

  WindowUse window = WindowUse::kNone;
  int window_period = 0;         // of so many layers all but the last have the window, unless the file says otherwise
  int default_window = 0;        // where the file gives none; 0: there is none
  int window_layers = 0;         // only models of so many layers have one; 0: all
  float local_rope_base = 0.0F;  // of layers with a window, unless the file says otherwise; 0: that of the others

  unsigned features = feature::kAttentionScale;
  bool scaled_embeddings = false;  // by the square root of their width
  int wide_score_layers = 0;       // models of so many layers divide scores by sqrt(n_embd / n_heads), not sqrt(head_dim)
};

std::span<const ArchitectureTraits> all_architectures();
const ArchitectureTraits& traits_of(Architecture architecture);
// Null where there is none of that name.
const ArchitectureTraits* find_architecture(std::string_view name);
const char* to_string(Architecture architecture);

}  // namespace celslm
