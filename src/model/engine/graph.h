// The ggml graph of one pass over layers.
#pragma once

#include <ggml-cpp.h>

#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "model/engine/engine.h"
#include "model/engine/model_impl.h"
#include "model/engine/pass.h"
#include "model/engine/shares.h"

namespace celslm {

// What a graph depends on besides the batch's contents.
struct PassShape {
  int first = 0;  // layers [first, last)
  int last = 0;
  int n_tokens = 0;
  bool from_tokens = false;  // enters with token ids, else with hidden states
  int n_outputs = 0;         // leaves with the logits of so many rows; 0: with all hidden states

  bool operator==(const PassShape&) const = default;
};

// A graph and its tensors' places in scratch memory that the caller owns. With KernelPath::kFused nothing in it depends
// on lengths or segments, so a decode loop re-uses one graph; with kPlain it must be built for each batch.
class Graph {
 public:
  // kOverloaded when scratch memory cannot be had. `pass` has begun the batch and, like model and scratch, outlives this.
  static Result<std::unique_ptr<Graph>> build(const Model::Impl& model, Pass& pass, const PassShape& shape,
                                              KernelPath kernels, const CpuBackend& cpu, ggml_gallocr_t scratch);

  const PassShape& shape() const { return shape_; }
  ggml_cgraph* cgraph() const { return graph_; }

  // Inputs, to be set before each run; null where the shape has none.
  ggml_tensor* tokens() const { return tokens_; }            // i32 [n_tokens]
  ggml_tensor* hidden() const { return hidden_; }            // f32 [n_embd, n_tokens]
  ggml_tensor* output_rows() const { return output_rows_; }  // i32 [n_outputs], when fewer than n_tokens
  void set_masks() const;                                    // kPlain only
  void restart();                                            // before each run

  ggml_tensor* result() const { return result_; }  // f32 [n_embd, n_tokens] or [n_vocab, n_outputs]

 private:
  friend class GraphBuilder;
  struct Product {
    const PackedMatrix* matrix = nullptr;
    const float* bias = nullptr;
  };
  struct Operand {  // of a custom operator: matrices, or a layer's rows and KV
    std::vector<Product> products;
    Pass* pass = nullptr;
    int layer = 0;
  };
  struct Task : Operand {
    explicit Task(Operand of) : Operand(std::move(of)) {}
    Shares shares;
  };
  struct Mask {
    ggml_tensor* tensor = nullptr;  // f32 [n_visible, n_tokens of the chunk, n_heads if the context has log masses, else 1]
    int n_before = 0;               // keys before the chunk's own new ones, which every row sees but for the window
    int window = 0;                 // keys that a row sees at most, the last of them its own; 0: all
    KvView context;                 // whose keys come first
    int gqa = 1;                    // query heads per KV head

    void set() const;
  };
  Graph() = default;

  PassShape shape_;
  ggml_context_ptr context_;
  ggml_cgraph* graph_ = nullptr;
  ggml_tensor* tokens_ = nullptr;
  ggml_tensor* hidden_ = nullptr;
  ggml_tensor* output_rows_ = nullptr;
  ggml_tensor* result_ = nullptr;
  std::vector<Mask> masks_;
  std::deque<Task> tasks_;                         // operators keep pointers to them
  std::vector<ggml_backend_buffer_ptr> segments_;  // ggml's views of KV segments (kPlain)
};

}  // namespace celslm
