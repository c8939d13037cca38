#include "model/engine/node_count.h"

#include <initializer_list>

#include "model/engine/plain_keys.h"

namespace celslm {
namespace {

constexpr std::size_t kNorm = 2;      // normalize, multiply by the weight
constexpr std::size_t kHeads = 1;     // of Q or K apart
constexpr std::size_t kResidual = 1;  // the sum
constexpr std::size_t kGated = 1;     // the activation times the other half
constexpr std::size_t kStore = 1;
constexpr std::size_t kHeadsTogether = 1;  // of what attention puts out
constexpr std::size_t kSoftcap = 3;        // divide, bend, multiply

// Experts' weights: choosing (a sort and its beginning), scores apart and taken, together and apart again.
constexpr std::size_t kChosenWeights = 2 + 2 + 2;
constexpr std::size_t kSharesOfAll = 1 + 3;  // softmax; sum, at least something, division
constexpr std::size_t kSoftmaxOfChosen = 1;

// Plain attention of one chunk: its view of q, its own rows of K and V as f32, q by head, scores, weights, V by token, the
// product, and heads back in their place.
constexpr std::size_t kRows = 2;
constexpr std::size_t kPlainChunk = 1 + 2 * kRows + 2 + 1 + 1 + 2 + 1 + 2;
constexpr std::size_t kPlainContext = 2 * (kRows + 1);  // K and V of a context, in front of the chunk's own

class NodeCount {
 public:
  NodeCount(const ModelConfig& config, std::span<const SequenceChunk> batch, KernelPath kernels)
      : config_(config), batch_(batch), fused_(kernels == KernelPath::kFused) {}

  std::size_t embedding() const { return 1 + scale(config_.embedding_scale); }

  std::size_t layer(const LayerWeights& w, int number) const {
    const std::size_t projections =
        norm(w.attn_norm) + linears({&w.q, &w.k, &w.v}) + head_norm(w.q_norm, w.q_gain) + head_norm(w.k_norm, w.k_gain);
    const std::size_t attention =
        kStore + (fused_ ? 1 : plain_attention(number)) + kHeadsTogether + linears({&w.attn_output});
    const std::size_t mlp =
        w.experts.router != nullptr ? mixture(w.experts) : linears({&w.gate, &w.up}) + kGated + linears({&w.down});
    const std::size_t norms = norm(w.attn_post_norm) + norm(w.ffn_norm) + norm(w.ffn_post_norm);
    return projections + attention + mlp + norms + 2 * residual();
  }

  std::size_t head(const Weights& w) const {
    const std::size_t softcap = config_.logit_softcap == 0.0F ? 0 : kSoftcap;
    return kNorm + linears({&w.output}) + scale(config_.logit_scale) + softcap;
  }

 private:
  std::size_t plain_attention(int layer) const {
    std::size_t out = batch_.size() - 1;  // joining the chunks
    for (const SequenceChunk& chunk : batch_) {
      const bool with_context = plain_keys(chunk, layer, config_.layer(layer).window).context.count() > 0;
      out += kPlainChunk + (with_context ? kPlainContext : 0);
    }
    return out;
  }

  std::size_t mixture(const ExpertWeights& w) const {
    const auto product = [](const ggml_tensor* bias) { return std::size_t{1} + (bias == nullptr ? 0 : 1); };
    const bool of_all = config_.traits().experts == Experts::kShareOfAll;
    const std::size_t weights = product(w.router_bias) + (of_all ? kSharesOfAll : kSoftmaxOfChosen) + kChosenWeights;
    const std::size_t products = product(w.gate_bias) + product(w.up_bias) + product(w.down_bias) + kGated;
    const auto n_used = static_cast<std::size_t>(config_.experts.n_used);
    return weights + 1 + products + 1 + n_used + n_used - 1;  // the input apart; times weights; parts and their sum
  }

  static std::size_t norm(const ggml_tensor* weight) { return weight == nullptr ? 0 : kNorm; }
  static std::size_t scale(float by) { return by == 1.0F ? 0 : 1; }
  std::size_t residual() const { return scale(config_.residual_scale) + kResidual; }

  // A gain comes behind RoPE: it is no node.
  static std::size_t head_norm(const ggml_tensor* weight, const ggml_tensor* gain) {
    if (weight != nullptr) return kHeads + kNorm;
    return gain == nullptr ? 0 : kHeads + 1;
  }

  // Of one input, which our own kernel rounds once for all of them.
  std::size_t linears(std::initializer_list<const Linear*> of_one_input) const {
    std::size_t out = 0;
    bool rounds = false;
    for (const Linear* l : of_one_input) {
      out += 1 + (l->b == nullptr ? 0 : 1);
      rounds = rounds || (fused_ && l->packed != nullptr);
    }
    return out + (rounds ? 1 : 0);
  }

  const ModelConfig& config_;
  const std::span<const SequenceChunk> batch_;
  const bool fused_;
};

}  // namespace

std::size_t count_nodes(const ModelConfig& config, const Weights& weights, const PassShape& shape,
                        std::span<const SequenceChunk> batch, KernelPath kernels) {
  const NodeCount count(config, batch, kernels);
  std::size_t out = shape.from_tokens ? count.embedding() : 0;
  for (int layer = shape.first; layer < shape.last; ++layer) out += count.layer(weights.layer(layer), layer);
  const bool selects = shape.n_outputs > 0 && shape.n_outputs < shape.n_tokens;
  if (selects) out += shape.first < shape.last ? 2 : 1;  // rows of what attention puts out, and of its input
  if (shape.n_outputs > 0) out += count.head(weights);
  return out;
}

}  // namespace celslm
