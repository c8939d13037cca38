#include "model/engine/node_count.h"

#include <algorithm>
#include <initializer_list>

#include "model/engine/layer_nodes.h"
#include "model/engine/plain_keys.h"

namespace celslm {
namespace {

constexpr std::size_t kNorm = 2;      // normalize, multiply by the weight
constexpr std::size_t kHeads = 1;     // of Q or K apart
constexpr std::size_t kResidual = 1;  // the sum
constexpr std::size_t kGated = 1;     // the activation times the other half
constexpr std::size_t kStore = 1;
constexpr std::size_t kHeadsTogether = 1;  // of what attention puts out
constexpr std::size_t kAttentionGate = 4;  // its view, apart, bent, times what attention puts out
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
  NodeCount(const ModelConfig& config, const PassShape& shape, std::span<const SequenceChunk> batch, KernelPath kernels)
      : config_(config), shape_(shape), batch_(batch), fused_(kernels == KernelPath::kFused) {}

  bool selects() const { return shape_.n_outputs > 0 && shape_.n_outputs < shape_.n_tokens; }

  std::size_t embedding() const { return 1 + scale(config_.embedding_scale); }

  std::size_t layer(const LayerWeights& w, int number) const {
    const int rows = number == shape_.last - 1 ? outputs() : shape_.n_tokens;  // behind attention
    const std::size_t mixing = norm(w.attn_norm) + (config_.state_values(number) > 0 ? recurrent(w) : attention(w, number)) +
                               back(w.attn_output, w.attn_post_norm, rows) + norm(w.ffn_norm);
    if (w.experts.router != nullptr) return mixing + mixture(w.experts) + norm(w.ffn_post_norm) + residual();
    return mixing + linears({&w.gate, &w.up}, rows) + kGated + back(w.down, w.ffn_post_norm, rows);
  }

  std::size_t head(const Weights& w) const {
    const std::size_t softcap = config_.logit_softcap == 0.0F ? 0 : kSoftcap;
    return kNorm + linears({&w.output}, outputs()) + scale(config_.logit_scale) + softcap;
  }

 private:
  std::size_t attention(const LayerWeights& w, int number) const {
    const std::size_t gate = config_.traits().gated_attention ? kAttentionGate : 0;
    return gate + linears({&w.q, &w.k, &w.v}, shape_.n_tokens) + head_norm(w.q_norm, w.q_gain) +
           head_norm(w.k_norm, w.k_gain) + kStore + (fused_ ? 1 : plain_attention(number)) + kHeadsTogether;
  }

  std::size_t recurrent(const LayerWeights& w) const {
    const RecurrentWeights& of = w.recurrent;
    if (of.gate.w == nullptr) return linears({&of.in}, shape_.n_tokens) + 1;
    return linears({&of.in, &of.alpha, &of.beta, &of.gate}, shape_.n_tokens) + 2;  // the convolution, the net
  }

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

  bool own(const Linear& l) const { return fused_ && l.packed != nullptr; }
  int outputs() const { return selects() ? shape_.n_outputs : shape_.n_tokens; }

  // Of one input of `rows`. Our own kernel adds biases itself, takes several matrices at once and hands views of what they
  // make on, and rounds a single row itself.
  std::size_t linears(std::initializer_list<const Linear*> of_one_input, int rows) const {
    const auto n_own =
        static_cast<std::size_t>(std::ranges::count_if(of_one_input, [&](const Linear* l) { return own(*l); }));
    const std::size_t rounds = n_own > 0 && rows > 1 ? 1 : 0;
    if (n_own == of_one_input.size()) return rounds + 1 + (n_own > 1 ? n_own : 0);
    std::size_t out = rounds;
    for (const Linear* l : of_one_input) out += 1 + (own(*l) || l->b == nullptr ? 0 : 1);
    return out;
  }

  // Back to a layer's hidden states, which our own kernel may add, too.
  std::size_t back(const Linear& l, const ggml_tensor* post_norm, int rows) const {
    const std::size_t product = linears({&l}, rows);
    return own(l) && adds_itself(config_, post_norm) ? product : product + norm(post_norm) + residual();
  }

  const ModelConfig& config_;
  const PassShape& shape_;
  const std::span<const SequenceChunk> batch_;
  const bool fused_;
};

}  // namespace

std::size_t count_nodes(const ModelConfig& config, const Weights& weights, const PassShape& shape,
                        std::span<const SequenceChunk> batch, KernelPath kernels) {
  const NodeCount count(config, shape, batch, kernels);
  std::size_t out = shape.from_tokens ? count.embedding() : 0;
  for (int layer = shape.first; layer < shape.last; ++layer) out += count.layer(weights.layer(layer), layer);
  if (count.selects()) out += shape.first < shape.last ? 2 : 1;  // rows of what attention puts out, and of its input
  if (shape.n_outputs > 0) out += count.head(weights);
  return out;
}

}  // namespace celslm
