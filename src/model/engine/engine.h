// Runs a model's layers over batches of tokens from many sequences.
//
// A pass is cut by layers, not by tokens: run_layers(first, last) takes hidden states and returns them, so shallow
// layers can run while deeper KV is still on the wire, and a prefill can stop at any layer.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <vector>

#include "core/bytes.h"
#include "core/result.h"
#include "model/engine/batch.h"
#include "model/engine/model.h"
#include "model/kv/condensed_kv.h"
#include "model/kv/kv_segment.h"

namespace celslm {

enum class KernelPath {
  kFused,  // our kernels (attention, products with quantized weights), as custom operators on the CPU
  kPlain,  // ggml operators only: the reference, and what other backends run
};

// What libllama's memory has room for: it takes all of it when the engine is made.
struct ForeignLimits {
  int n_tokens = 32'768;  // of all sequences together
  int n_sequences = 64;   // at the same time: contexts, requests and kept prefixes
};

struct EngineOptions {
  int n_threads = 0;  // at most; 0: one per core this process may use. Fewer compute while something else uses the cores
  KernelPath kernels = KernelPath::kFused;
  ForeignLimits foreign;  // of models that libllama runs
};

class ForeignEngine;

// One engine is used by one thread at a time; several engines may share a Model. Scratch memory is kept and re-used.
// A model that was loaded with a device is computed there: `kernels` counts for the layers that the CPU keeps. Beside the
// errors named below, kOverloaded (with sizes) where the device has no memory for a batch, which can be tried again, and
// kUnavailable where it cannot compute one.
// Of a model that libllama runs, embed(), run_layers(), forward() and the last row's logits() work, and KV stays with this
// engine; all else is kInvalid.
// Passes are virtual so that benchmarks can have them take as long as on another machine (bench/cpp/paced_engine.h).
class Engine {
 public:
  static Result<std::unique_ptr<Engine>> create(std::shared_ptr<const Model> model, const EngineOptions& options = {});
  virtual ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const Model& model() const;
  // All KV of a context that was computed here, as libllama writes it. kInvalid for a model that our graphs run.
  Result<Bytes> foreign_state(const KvSegment& segment);

  // kInvalid for a token outside the vocabulary.
  Result<Hidden> embed(std::span<const Token> tokens);

  // Layers [first, last) over the batch. `hidden` holds the chunks' tokens in order and is replaced by the output. Writes
  // the new rows of each chunk's `own` in these layers; lengths do not change: the caller calls own->set_length() once all
  // layers have run. kInvalid for layers, shapes, types or capacities that do not fit (named).
  virtual Status run_layers(int first, int last, std::span<const SequenceChunk> batch, Hidden& hidden,
                            const KvTap& tap = {});

  // Attention's output in one layer for the batch, before the output projection: [n_tokens][n_heads * head_dim].
  // `hidden` enters the layer and does not change; the new rows of each chunk's `own` are written. For measurements; with
  // KernelPath::kFused, and of layers that the CPU computes, only (kInvalid). Other errors as run_layers.
  Result<std::vector<float>> attention_output(int layer, std::span<const SequenceChunk> batch, const Hidden& hidden);

  // One layer as run_layers(layer, layer + 1, batch, hidden); returns the batch's queries in it, after RoPE:
  // [n_tokens][n_heads][head_dim]. A score is their product with a key times attention_scale. kInvalid for a layer that a
  // device computes. Other errors as run_layers.
  Result<std::vector<float>> run_layer_for_queries(int layer, std::span<const SequenceChunk> batch, Hidden& hidden);

  // Logits of the given rows, [rows.size()][n_vocab], in the engine's memory: valid until its next call. (Megabytes for many
  // users: a vector of their own would be zeroed and paged in at every step.)
  Result<std::span<const float>> logits(const Hidden& hidden, std::span<const int> rows);

  // All of the above for one batch: tokens in, logits of the last token of each chunk out (valid until the next
  // call), lengths advanced.
  virtual Result<std::span<const float>> forward(std::span<const Token> tokens, std::span<const SequenceChunk> batch);

  // Fills layer `layer` of `segment` (capacity >= n_tokens) from K before RoPE, without the layer's bias, and V, each
  // [n_tokens][kv_width] f32, at rows [first_row, first_row + n_tokens): rounds, adds the bias, applies RoPE, rounds. Either
  // may be empty, and is then not written. kInvalid for a condensed segment. Safe from any thread for distinct rows; no
  // engine needed.
  static Status import_rows(const Model& model, KvSegment& segment, int layer, int first_row, int n_tokens,
                            std::span<const float> k, std::span<const float> v);

  // Makes the state of a recurrent layer of `segment` that behind its first n_rows rows: [state_values] f32. kInvalid for
  // another layer, size, or a value that is no finite number. Safe from any thread for distinct layers.
  static Status import_state(const Model& model, KvSegment& segment, int layer, int n_rows, std::span<const float> state);

  // The same for rows of a condensed segment, each KV head's at positions of its own: K needs positions, and what is empty
  // of k, v and log_mass is not written. kInvalid where check_positions() or check_log_mass() refuses.
  static Status import_condensed(const Model& model, KvSegment& segment, int layer, int first_row,
                                 const CondensedRows& rows);

  struct Impl;

 protected:
  Engine(Engine&& other) noexcept;  // for what derives: `other` is good for nothing but its end

 private:
  Engine(std::unique_ptr<Impl> impl, std::unique_ptr<ForeignEngine> foreign);
  Result<std::span<const float>> forward_on_device(std::span<const Token> tokens, std::span<const SequenceChunk> batch);
  std::unique_ptr<Impl> impl_;              // null if libllama runs the model
  std::unique_ptr<ForeignEngine> foreign_;  // null if our graphs do
};

// kInvalid for models with recurrent layers: what reads rows of every layer, or replaces them, does not take them.
Status check_rows_only(const ModelConfig& config);

// kInvalid for models whose attention cannot read a condensed context: those with sliding windows; and as check_rows_only().
Status check_condensable(const ModelConfig& config);

// `kv` as a segment behind which sequences go on at position kv.n_tokens. kInvalid where check_condensed() refuses it;
// errors of KvSegment::create_condensed.
Result<std::shared_ptr<KvSegment>> condensed_segment(const Model& model, KvType type, const CondensedKv& kv);

// How many tokens one prefill step takes. Part of what makes two nodes compute the same bits: both use this.
inline constexpr int kPrefillStep = 512;
// The same of a model that libllama runs: one unit of a context's prefill is such a step through all its layers, and answers
// that others wait for stand still meanwhile.
inline constexpr int kForeignPrefillStep = 256;
inline int prefill_step(const Model& model) {
  return model.foreign() ? kForeignPrefillStep : kPrefillStep;
}

}  // namespace celslm
