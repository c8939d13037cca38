// What the custom operators of a graph read while it runs: the batch at hand, row by row.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "core/result.h"
#include "model/attention/attention.h"
#include "model/config.h"
#include "model/engine/batch.h"
#include "model/engine/model_impl.h"
#include "model/kv/kv_rows.h"
#include "model/kv/rope.h"
#include "model/matrix/packed_matrix.h"

namespace celslm {

// kInvalid, naming the chunk and the field, unless the batch fits the model and itself: shapes, capacities, positions that
// follow each other, and no segment written by two chunks.
Status check_batch(const ModelConfig& config, std::span<const SequenceChunk> batch, int n_tokens);

// kInvalid, naming the chunk and the layer, where a recurrent layer of [first, last) has no state at the chunk's beginning:
// a state goes forward only, and a context has the one at its end.
Status check_states(const ModelConfig& config, std::span<const SequenceChunk> batch, int first, int last);

// One batch on its way through layers. Filled by the calling thread before the graph runs; while it runs, threads read it
// and write only their own scratch and their own rows.
class Pass {
 public:
  Pass(const Model::Impl& model, int n_threads);  // the model outlives this

  // The batch must have passed check_batch and outlive the run.
  void begin(std::span<const SequenceChunk> batch, int first_layer, int last_layer);

  // Rotates q ([n_tokens][n_heads][head_dim]) into q_out, and rounds, rotates and stores k and v ([n_tokens][kv_width])
  // into the chunks' segments. Thread ith of nth does its share.
  void store(int layer, const float* q, const float* k, const float* v, float* q_out, int ith, int nth);
  // One of n_shares. out: [n_tokens][n_heads][head_dim]. Thread: which of them calls.
  void attend(int layer, const float* q, float* out, int thread, int share, int n_shares);

  // x, one token's row, in blocks of 8 bits; until the thread's next call.
  const Q8Block* rounded(std::span<const float> x, int thread);

  // A recurrent layer's convolution (model/recurrent/convolution.h) over what its input matrix makes of tokens. out:
  // [n_tokens][conv_channels]. Reads and replaces its part of the chunks' states. Thread ith of nth does its share.
  void convolve(int layer, const float* in, float* out, int ith, int nth);
  // The same of its delta net, from what the convolution and the layer's other matrices put out. out:
  // [n_tokens][value_width].
  struct DeltaNetInputs {
    const float* qkv = nullptr;
    const float* alpha = nullptr;
    const float* beta = nullptr;
    const float* gate = nullptr;
  };
  void delta_net(int layer, DeltaNetInputs in, float* out, int ith, int nth);

  // Where store() also leaves K before bias and RoPE, and V, both rounded, [n_tokens][kv_width]; empty: nowhere.
  void tap(std::span<float> k, std::span<float> v) {
    tap_k_ = k;
    tap_v_ = v;
  }

  // Where attend() also leaves what it puts out, [n_tokens][n_heads][head_dim]; empty: nowhere.
  void tap_attention(std::span<float> out) { tap_attention_ = out; }

  // Where store() also leaves the rotated q, [n_tokens][n_heads][head_dim]; empty: nowhere.
  void tap_queries(std::span<float> out) { tap_queries_ = out; }

  std::span<const SequenceChunk> batch() const { return batch_; }
  int n_tokens() const { return static_cast<int>(rows_.size()); }
  const ModelConfig& config() const { return config_; }

 private:
  struct Row {
    int chunk = 0;
    int own_row = 0;           // in the chunk's own segment
    float temperature = 1.0F;  // that its queries are multiplied by
  };
  struct ThreadScratch {
    AttentionScratch attention;
    std::vector<float> head;   // [key_scratch()]
    std::vector<Q8Block> row;  // of the widest input of a matrix
    std::vector<float> state;  // of a delta net's head
  };

  // Of a recurrent layer: the state before the chunk's first token, or null for zeros.
  static const float* state_before(const SequenceChunk& chunk, int layer);
  std::vector<AttentionGroup> groups_of(int layer) const;
  AttentionGroup group(int layer, std::size_t chunk, int first_row, bool own) const;
  void store_query(int layer, int row, const float* q, float* out) const;
  void store_head(int layer, int row, int head, const float* k, const float* v, ThreadScratch& scratch);

  const Rotation& rotation(int layer) const { return model_.rotation(layer); }
  RopeAngles angles(int layer, int row) const {
    return angles_[static_cast<std::size_t>(config_.layer(layer).rope)].row(row);
  }

  const Model::Impl& model_;
  const ModelConfig& config_;
  const Weights& weights_;
  std::span<const SequenceChunk> batch_;
  int first_layer_ = 0;
  std::vector<Row> rows_;
  std::vector<int> by_context_;                      // chunks with a context, those that share one adjacent
  std::vector<std::vector<AttentionGroup>> groups_;  // by layer - first_layer_
  std::array<RopeTable, kRopeUses> angles_;          // by RopeUse
  std::span<float> tap_k_;
  std::span<float> tap_v_;
  std::span<float> tap_attention_;
  std::span<float> tap_queries_;
  std::vector<ThreadScratch> scratch_;
};

}  // namespace celslm
