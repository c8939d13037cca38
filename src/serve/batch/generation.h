// One request's way through the batch loop, seen from both ends.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/result.h"
#include "model/text/sampler.h"
#include "serve/context/resident_context.h"
#include "serve/openai/openai.h"

namespace celslm {

// What is to be generated. Tokens exclude the context's.
struct GenerationRequest {
  std::shared_ptr<ResidentContext> context;  // or null
  bool context_was_resident = false;         // complete when the request came: its sources are "memory"
  std::vector<Token> prompt;                 // at least one
  int max_tokens = 0;                        // at least one; prompt and answer fit the model's context (checked by submit)
  SamplerOptions sampler;
  std::vector<std::string> stop;
  bool logprobs = false;
  int top_logprobs = 0;
};

struct GenerationTimes {
  Duration queue{};        // submitted -> taken up
  Duration context{};      // taken up -> the context's last layer was there
  Duration prefill{};      // engine time spent on the prompt's own tokens
  Duration first_token{};  // submitted -> first token
  Duration decode{};       // first token -> last
};

// A piece of the answer. The last one has `finish` or `error`.
struct GenerationPiece {
  std::string text;
  std::vector<TokenText> tokens;
  std::optional<FinishReason> finish;
  std::optional<Error> error;
  Usage usage;            // with finish
  GenerationTimes times;  // with finish
};

// The channel between the batch loop (puts) and a server thread (takes). Thread-safe.
class Generation {
 public:
  explicit Generation(GenerationRequest generation_request) : request(std::move(generation_request)) {}

  const GenerationRequest request;

  // The next piece, or nullopt after `patience` so that the caller can look whether its client is still there.
  std::optional<GenerationPiece> take(std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    if (!more_.wait_for(lock, patience, [&] { return !pieces_.empty(); })) return std::nullopt;
    GenerationPiece piece = std::move(pieces_.front());
    pieces_.pop_front();
    return piece;
  }

  void put(GenerationPiece piece) {
    const std::scoped_lock lock(mutex_);
    pieces_.push_back(std::move(piece));
    more_.notify_one();
  }

  // The client has gone: the loop frees the request's place at its next step.
  void cancel() { cancelled_.store(true); }
  bool cancelled() const { return cancelled_.load(); }

 private:
  std::atomic<bool> cancelled_{false};
  std::mutex mutex_;
  std::condition_variable more_;
  std::deque<GenerationPiece> pieces_;  // protected by mutex_
};

}  // namespace celslm
