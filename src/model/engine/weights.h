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
};

struct LayerWeights {
  ggml_tensor* attn_norm = nullptr;  // [n_embd]
  Linear q;                          // to n_heads * head_dim
  Linear k;                          // to kv_width
  Linear v;
  ggml_tensor* k_bias = nullptr;  // f32 [kv_width] in host memory, or null: added after K has been rounded, and k.b is null
  ggml_tensor* q_norm = nullptr;  // [head_dim], or null
  ggml_tensor* k_norm = nullptr;
  Linear attn_output;  // from n_heads * head_dim to n_embd
  ggml_tensor* ffn_norm = nullptr;
  Linear gate;  // to n_ff
  Linear up;
  Linear down;
};

// Tensors are data inside the model's mapped files, except those that the backend, or our own kernels, keep in another form.
// Immutable after load; the tensors live as long as this.
class Weights {
 public:
  // parts: as open_gguf() returns them. Completes `config` with what the tensors show, and refuses tensors that are missing,
  // misshapen, of a type that cannot be multiplied, or of unknown meaning.
  static Result<std::unique_ptr<Weights>> load(std::vector<GgufPart> parts, ModelConfig& config,
                                               const ModelOptions& options);

  ggml_tensor* token_embd = nullptr;    // [n_embd, n_vocab]
  ggml_tensor* output_norm = nullptr;   // [n_embd]
  Linear output;                        // to n_vocab; token_embd (or its repacked copy) when tied
  ggml_tensor* rope_factors = nullptr;  // [rope.dimensions / 2] f32 in host memory, or null
  std::vector<LayerWeights> layers;

  // The tensor as the file has it, or null.
  const ggml_tensor* in_file(const std::string& name) const { return find_tensor(parts_, name.c_str()); }

  // [kv_width], or null.
  const float* k_bias(int layer) const {
    const ggml_tensor* bias = layers[static_cast<std::size_t>(layer)].k_bias;
    return bias == nullptr ? nullptr : static_cast<const float*>(bias->data);
  }
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
