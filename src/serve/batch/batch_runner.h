// What the engine computes in one step: a bounded amount of each kind of work, so that nobody waits for another's long
// prompt.
//   1. one unit (a layer's step) of one context that has to be computed here,
//   2. for requests whose context is still loading: their prompt through the layers that are there,
//   3. one batch: a token for every request that is being answered, and a share of the prompts of the others.
// Before that, answers whose grammars have allowed a token since the last step get it; those whose grammars still think are
// left out, so that they hold up nobody else.
// How many tokens of prompts go into a step follows from measurements: as many as keep it within options.max_stall.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/clock.h"
#include "core/result.h"
#include "model/engine/engine.h"
#include "serve/batch/batch_options.h"
#include "serve/batch/context_compute.h"
#include "serve/batch/kv_memory.h"
#include "serve/batch/sequence.h"

namespace celslm {

// Used by the loop's thread alone. Engine, clock and memory must outlive this.
class BatchRunner {
 public:
  BatchRunner(Engine& engine, const Clock& clock, KvMemory& memory, const BatchOptions& options);

  // One step for these requests, whose order it changes so that each gets its turn. False if there was nothing to do.
  // Requests that have ended or failed stay in the list; the caller removes them.
  bool step(Sequences& running);

  // Forgets contexts that are being computed: they begin again with the next request for them.
  void drop_contexts() { compute_.drop_all(); }

  std::uint64_t prompt_tokens() const { return prompt_tokens_; }          // computed so far
  std::uint64_t completion_tokens() const { return completion_tokens_; }  // chosen so far

 private:
  struct Batch {
    std::vector<Token> tokens;
    std::vector<SequenceChunk> chunks;
    std::vector<Sequence*> members;
    void add(Sequence& sequence, int n_tokens);
  };

  bool end_choices(const Sequences& running);
  bool compute_contexts(Sequences& running);
  int prompt_share(const Sequences& running) const;
  bool has_kv(Sequence& sequence, const Sequences& running);
  bool advance_loading(Sequences& running);
  Result<bool> advance_layers(Sequence& sequence, int share);
  Status take_rows(Sequence& sequence, const Hidden& hidden);
  Status end_layers(Sequence& sequence);
  void add_prompts(Batch& batch, Sequences& running);
  bool run_batch(Sequences& running);
  void passed_layers(Sequence& sequence, int n_tokens, std::span<const float> logits);

  Engine& engine_;
  const Clock& clock_;
  KvMemory& memory_;
  const BatchOptions options_;
  ContextCompute compute_;
  Duration row_time_{};  // of a row of a batch, recently; zero before the first
  std::uint64_t prompt_tokens_ = 0;
  std::uint64_t completion_tokens_ = 0;
};

}  // namespace celslm
