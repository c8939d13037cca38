// An engine that takes as long as another machine's: it computes a small model at once and holds the result back until that
// machine would have had it. So many edges run on few cores, and all about them but their engines' speed is real.
#pragma once

#include <chrono>
#include <memory>
#include <span>

#include "model/engine/engine.h"

namespace celslm {

// What was measured of the machine; EngineModel of plan/simulation/fleet_shape.h has the same.
struct RecordedTimings {
  double prefill_tokens_per_s = 400;
  double decode_base_s = 0.013;      // of a step in which answers go on, however many
  double decode_per_user_s = 0.001;  // for each of them
};

class PacedEngine final : public Engine {
 public:
  PacedEngine(std::unique_ptr<Engine> engine, const RecordedTimings& timings)
      : Engine(std::move(*engine)), timings_(timings) {}

  Status run_layers(int first, int last, std::span<const SequenceChunk> batch, Hidden& hidden, const KvTap& tap) override;
  Result<std::span<const float>> forward(std::span<const Token> tokens, std::span<const SequenceChunk> batch) override;

 private:
  // Of a batch's way through all layers: a chunk of one token is an answer that goes on, others are parts of prompts.
  std::chrono::duration<double> pass_time(std::span<const SequenceChunk> batch) const;

  const RecordedTimings timings_;
};

}  // namespace celslm
