// Sequences of one model in libllama's memory, computed together.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/bytes.h"
#include "core/result.h"
#include "model/config.h"
#include "model/kv/foreign_kv.h"
#include "model/llama/llama_model.h"

namespace celslm {

struct LlamaLimits {
  int n_threads = 1;
  int n_tokens = 0;     // of all sequences together; what several share counts once
  int n_sequences = 0;  // at the same time
};

// Tokens whose KV lies in the memory of a LlamaContext. Its place there is free again after the destructor, which any thread
// may run; all else is for the thread that runs the context, while that lives.
class LlamaSequence;

// One thread at a time.
class LlamaContext {
 public:
  // Takes the memory for all n_tokens at once. kOverloaded where it cannot be had; kInvalid for limits out of range.
  static Result<std::unique_ptr<LlamaContext>> create(std::shared_ptr<const LlamaModel> model, const LlamaLimits& limits);
  ~LlamaContext();
  LlamaContext(const LlamaContext&) = delete;
  LlamaContext& operator=(const LlamaContext&) = delete;

  const LlamaModel& model() const;

  // An empty one. kOverloaded where all n_sequences are taken.
  Result<std::shared_ptr<LlamaSequence>> new_sequence();
  // The sequence behind KV that came from here or from a state, and that `kv` keeps; a state is read first. Where libllama
  // refuses it, its tokens are computed instead. Errors of decode().
  Result<LlamaSequence*> sequence_of(ForeignKv& kv);
  // A new one that begins with the first n_tokens of another: shared where that is possible, else computed again.
  Result<std::shared_ptr<LlamaSequence>> beginning(LlamaSequence& of, int n_tokens);

  // New tokens behind a sequence; `wants_logits` of the last one.
  struct Chunk {
    LlamaSequence* sequence = nullptr;
    std::span<const Token> tokens;
    bool wants_logits = false;
  };
  // Computes them. kOverloaded where the memory for n_tokens is used up. After an error the sequences of the chunks are what
  // they were or, where libllama cannot take back what a part of the batch has left, empty.
  Status decode(std::span<const Chunk> chunks);
  // Of the last decode(): [chunks that want them][n_vocab], valid until the next.
  std::span<const float> logits() const;

  // All of a sequence as bytes that libllama reads again, in this process or another of the same build.
  Result<Bytes> state(const LlamaSequence& sequence);

  struct Impl;

 private:
  Status decode_parts(std::span<const Chunk> chunks);
  explicit LlamaContext(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

class LlamaSequence final : public ForeignKv {
 public:
  ~LlamaSequence() override;
  int n_tokens() const { return static_cast<int>(tokens_.size()); }
  std::shared_ptr<ForeignKv> first(int n_tokens) override;

 private:
  friend class LlamaContext;
  friend struct LlamaContext::Impl;
  struct Places;
  LlamaSequence(std::shared_ptr<Places> places, int id);

  const std::shared_ptr<Places> places_;
  const int id_;
  std::vector<Token> tokens_;  // in libllama's memory
};

// KV that comes from a state: the first LlamaContext that needs it reads it. Whoever passes it vouches for the bytes, since
// libllama's reader is not made for hostile ones: docs/foreign-models.md. tokens: those that the state is of.
std::shared_ptr<ForeignKv> kv_from_state(Bytes state, std::vector<Token> tokens);

}  // namespace celslm
