// Many continuations of many prompts behind one context, step by step. Prompts share their common beginning, continuations
// their prompt, and all of them each step: decoding is bound by reading the weights.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "align/study/turns.h"
#include "core/result.h"
#include "model/engine/engine.h"

namespace celslm {

struct DecodeTurn {
  std::vector<Token> prompt;  // what follows the context; not empty
  std::vector<Continuation> continuations;
  int limit = 0;
  std::vector<Token> forced;  // not empty: replies are these tokens, whatever the model would choose
};

struct DecodedReply {
  std::vector<Token> tokens;  // with the one that ended it
  bool ended = false;
  std::vector<std::vector<TokenLogprob>> top;  // kTeacherTop at each token, if wanted
};

// Used by one thread. Writes to rows of the context's segment behind its length, and restores the length when it is done or
// destroyed: nobody else may use the segment meanwhile.
class DecodeBatch {
 public:
  // context: null for none, prompts then begin at position 0. The engine must outlive this.
  DecodeBatch(Engine& engine, std::shared_ptr<KvSegment> context, std::vector<DecodeTurn> turns);
  ~DecodeBatch();
  DecodeBatch(const DecodeBatch&) = delete;
  DecodeBatch& operator=(const DecodeBatch&) = delete;

  // One pass through the model; true once all replies are there. Errors of the engine, KvSegment::create and
  // Sampler::create.
  Result<bool> step();
  std::vector<std::vector<DecodedReply>> take();  // by turn, then by continuation; once
  std::int64_t tokens() const { return tokens_; }

 private:
  struct Sequence {
    std::size_t turn = 0;
    std::size_t continuation = 0;
    std::shared_ptr<KvSegment> own;
    std::optional<Sampler> sampler;  // unless greedy
    DecodedReply reply;
    bool done = false;
  };

  std::size_t common_beginning() const;
  Status read_beginning();
  Status read_prompts();
  Status begin_sequences(std::size_t turn, const std::shared_ptr<KvSegment>& prompt, std::span<const float> logits);
  Result<Sequence> new_sequence(std::size_t turn, std::size_t continuation);
  Result<bool> decode();
  void choose(Sequence& sequence, std::span<const float> logits);
  Result<std::shared_ptr<KvSegment>> new_segment(int first_position, std::size_t tokens) const;
  std::span<const float> row(std::span<const float> logits, std::size_t i) const;
  int base_length() const { return base_ ? base_->length() : 0; }

  Engine& engine_;
  const std::shared_ptr<KvSegment> context_;
  const int context_length_;
  const std::vector<DecodeTurn> turns_;
  std::shared_ptr<KvSegment> base_;  // the context, and what the prompts have in common; null: neither
  std::size_t shared_ = 0;           // tokens of each prompt that are in base_
  bool begun_ = false;
  std::size_t read_ = 0;  // prompts
  std::vector<Sequence> sequences_;
  std::int64_t tokens_ = 0;
};

// The n largest, best first; of equal ones the lower token first.
std::vector<TokenLogprob> top_log_probs(std::span<const float> logits, int n);

}  // namespace celslm
