#include "model/engine/node_count.h"

#include <algorithm>
#include <initializer_list>

namespace celslm {
namespace {

constexpr std::size_t kNorm = 2;              // normalize, multiply by the weight
constexpr std::size_t kHeadNorm = 1 + kNorm;  // with the heads apart
constexpr std::size_t kResidual = 1;
constexpr std::size_t kGated = 1;  // the activation times the other half
constexpr std::size_t kStore = 1;
constexpr std::size_t kHeadsTogether = 1;  // of what attention puts out

// Plain attention of one chunk: its view of q, its own rows of K and V as f32, q by head, scores, weights, V by token, the
// product, and heads back in their place.
constexpr std::size_t kRows = 2;
constexpr std::size_t kPlainChunk = 1 + 2 * kRows + 2 + 1 + 1 + 2 + 1 + 2;
constexpr std::size_t kPlainContext = 2 * (kRows + 1);  // K and V of a context, in front of the chunk's own

class NodeCount {
 public:
  NodeCount(std::span<const SequenceChunk> batch, KernelPath kernels)
      : fused_(kernels == KernelPath::kFused), attention_(fused_ ? 1 : plain_attention(batch)) {}

  std::size_t layer(const LayerWeights& w) const {
    const std::size_t attention = kNorm + linears({&w.q, &w.k, &w.v}) + head_norm(w.q_norm) + head_norm(w.k_norm) + kStore +
                                  attention_ + kHeadsTogether + linears({&w.attn_output}) + kResidual;
    return attention + kNorm + linears({&w.gate, &w.up}) + kGated + linears({&w.down}) + kResidual;
  }
  std::size_t head(const Weights& w) const { return kNorm + linears({&w.output}); }

 private:
  static std::size_t plain_attention(std::span<const SequenceChunk> batch) {
    std::size_t out = batch.empty() ? 0 : batch.size() - 1;  // joining the chunks
    for (const SequenceChunk& chunk : batch) {
      const bool with_context = chunk.context != nullptr && chunk.context->length() > 0;
      out += kPlainChunk + (with_context ? kPlainContext : 0);
    }
    return out;
  }

  static std::size_t head_norm(const ggml_tensor* weight) { return weight == nullptr ? 0 : kHeadNorm; }

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

  const bool fused_;
  const std::size_t attention_;  // of one layer
};

}  // namespace

std::size_t count_nodes(const Weights& weights, const PassShape& shape, std::span<const SequenceChunk> batch,
                        KernelPath kernels) {
  // Without layers there is no attention, and the batch may be one of an earlier pass.
  const NodeCount count(shape.first < shape.last ? batch : std::span<const SequenceChunk>(), kernels);
  std::size_t out = shape.from_tokens ? 1 : 0;
  for (int layer = shape.first; layer < shape.last; ++layer)
    out += count.layer(weights.layers[static_cast<std::size_t>(layer)]);
  const bool selects = shape.n_outputs > 0 && shape.n_outputs < shape.n_tokens;
  if (selects) out += shape.first < shape.last ? 2 : 1;  // rows of what attention puts out, and of its input
  if (shape.n_outputs > 0) out += count.head(weights);
  return out;
}

}  // namespace celslm
