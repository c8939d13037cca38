// A model's tensors, where its graphs find them.
#pragma once

#include <ggml-cpp.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/hash.h"
#include "core/result.h"
#include "model/backend.h"
#include "model/config.h"
#include "model/engine/model.h"
#include "model/gguf/gguf_parts.h"
#include "model/matrix/packed_matrix.h"

namespace celslm {

// y = w x + b; ggml shapes, w [n_in, n_out], b [n_out] or null.
struct Linear {
  ggml_tensor* w = nullptr;
  ggml_tensor* b = nullptr;
  const PackedMatrix* packed = nullptr;  // w again, for our own kernel; null where ggml's product is the one to use
  const ggml_tensor* in_file = nullptr;  // w as the file has it
};

// The experts of a layer. Matrices [n_in, n_out, n], in the file's form; biases f32 [n_out, n] or null.
struct ExpertWeights {
  ggml_tensor* router = nullptr;       // [n_embd, n]; null: the layer has one MLP
  ggml_tensor* router_bias = nullptr;  // [n]
  ggml_tensor* gate = nullptr;
  ggml_tensor* gate_bias = nullptr;
  ggml_tensor* up = nullptr;
  ggml_tensor* up_bias = nullptr;
  ggml_tensor* down = nullptr;
  ggml_tensor* down_bias = nullptr;
};

// Of a layer that is recurrent, beside what it has in common with others.
struct RecurrentWeights {
  Linear in;                           // from n_embd to what the layer's tokens are mixed from
  ggml_tensor* convolution = nullptr;  // f32 [conv_tokens, conv_channels] in host memory
  // Of a delta net. Vectors are f32 in host memory.
  Linear gate;                        // to value_width: of what the net puts out
  Linear alpha;                       // to n_value_heads: how much of a head's state decays
  Linear beta;                        // to n_value_heads: how much of a token enters it
  ggml_tensor* alpha_bias = nullptr;  // [n_value_heads]
  ggml_tensor* decay = nullptr;       // [n_value_heads]
  ggml_tensor* norm = nullptr;        // [head_dim], of each head that the net puts out
};

struct LayerWeights {
  ggml_tensor* attn_norm = nullptr;  // [n_embd], as the other norms of the layer; or null: there is none
  RecurrentWeights recurrent;        // without tensors for a layer with attention; else q to sinks are
  Linear q;                          // to n_heads * head_dim, or twice as many with gates
  Linear k;                          // to kv_width
  Linear v;
  ggml_tensor* k_bias = nullptr;  // f32 [kv_width] in host memory, or null: added after K has been rounded, and k.b is null
  ggml_tensor* q_norm = nullptr;  // [head_dim], or null
  ggml_tensor* k_norm = nullptr;
  ggml_tensor* q_gain =
      nullptr;  // f32 [head_dim] in host memory, or null: heads are normed, and multiplied by it after RoPE
  ggml_tensor* k_gain = nullptr;
  ggml_tensor* sinks = nullptr;  // f32 [n_heads] in host memory, or null
  Linear attn_output;            // from n_heads * head_dim, or what a recurrent layer's tokens are mixed to, to n_embd
  ggml_tensor* attn_post_norm = nullptr;
  ggml_tensor* ffn_norm = nullptr;
  Linear gate;  // to n_ff; without weights, as up and down, where there are experts
  Linear up;
  Linear down;
  ExpertWeights experts;
  ggml_tensor* ffn_post_norm = nullptr;

  std::vector<Linear*> linears();  // that have weights
  std::vector<const Linear*> linears() const;
};

// Tensors are data inside the model's mapped files, except those that the backend, or our own kernels, keep in another form.
// Immutable after load; the tensors live as long as this.
class Weights {
 public:
  // parts: as open_gguf() returns them. Completes `config` with what the tensors show. Errors of TensorNames::name_all();
  // kMismatch for tensors of unknown meaning.
  static Result<std::unique_ptr<Weights>> load(std::vector<GgufPart> parts, ModelConfig& config,
                                               const ModelOptions& options);

  ggml_tensor* token_embd = nullptr;    // [n_embd, n_vocab]
  ggml_tensor* output_norm = nullptr;   // [n_embd]
  Linear output;                        // to n_vocab; token_embd (or its repacked copy) when tied
  ggml_tensor* rope_factors = nullptr;  // [rope.dimensions / 2] f32 in host memory, or null
  std::vector<LayerWeights> layers;
  ggml_context_ptr slices;  // of the file's tensors, where graphs use some rows as a tensor of their own

  const LayerWeights& layer(int i) const { return layers[static_cast<std::size_t>(i)]; }
  const float* k_bias(int i) const { return floats(layer(i).k_bias); }  // [kv_width], or null
  const float* k_gain(int i) const { return floats(layer(i).k_gain); }  // [head_dim], or null
  const float* q_gain(int i) const { return floats(layer(i).q_gain); }  // [head_dim], or null
  const float* sinks(int i) const { return floats(layer(i).sinks); }    // [n_heads], or null
  const float* convolution(int i) const { return floats(layer(i).recurrent.convolution); }
  std::size_t size_bytes() const { return size_bytes_; }
  Arithmetic arithmetic() const;  // of the KV that they make
  // Whether packed matrices lie in a file that an earlier start has kept.
  bool panels_are_mapped() const { return panels_are_mapped_; }
  // Until they are kept for the next start, if they are going to be. Otherwise the end of this object stops that.
  void wait_until_kept() {
    if (panel_writer_.joinable()) panel_writer_.join();
  }
  const Hash256& hash() const { return hash_; }  // over every tensor's name, type, shape and bytes, in the files' order

 private:
  static const float* floats(const ggml_tensor* t) { return t == nullptr ? nullptr : static_cast<const float*>(t->data); }
  Weights() = default;
  friend class WeightsLoader;

  std::vector<GgufPart> parts_;                    // whose tensors' data lies in their files
  ggml_context_ptr repacked_;                      // copies in the backend's own forms
  std::vector<ggml_backend_buffer_ptr> mappings_;  // ggml's views of the files
  std::vector<ggml_backend_buffer_ptr> buffers_;
  std::vector<std::unique_ptr<PackedMatrix>> packed_;
  std::size_t size_bytes_ = 0;
  Hash256 hash_;
  bool panels_are_mapped_ = false;
  std::jthread panel_writer_;  // of the cache; ends before what it writes does
};

}  // namespace celslm
