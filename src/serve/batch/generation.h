// A request to the batch loop and the channel through which its answer comes.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/mutex.h"
#include "core/result.h"
#include "core/timed_condition.h"
#include "model/text/sampler.h"
#include "serve/context/resident_context.h"
#include "serve/openai/openai.h"

namespace celslm {

// What is to be generated. Tokens exclude the context's.
struct GenerationRequest {
  std::shared_ptr<ResidentContext> context;  // or null
  std::optional<int> context_tokens;         // of the context's tokens, those the request begins with; absent: all
  bool context_is_optional = false;          // a longer beginning that an earlier request left behind is used instead
  bool context_was_resident = false;         // complete when the request came: its source is "memory"
  bool began_load = false;                   // the context's loading began with this request
  std::string why_no_context;                // although its system message is a registered text; for people
  std::vector<Token> prompt;                 // at least one
  bool begins_with_bos = false;              // which is not of the prompt's text
  int max_tokens = 0;  // none: the prompt is only read; prompt and answer fit the model's context (checked by submit)
  SamplerOptions sampler;
  std::vector<std::string> stop;
  std::vector<Token> shown;  // control tokens that are text in this answer, such as those around a tool call
  bool logprobs = false;
  int top_logprobs = 0;
  std::string tenant;  // whose contexts it may use; empty: the default one's
  std::string owner;   // whose request it is: KV that one owner's requests leave behind is never used for another's
  bool prompt_logprobs = false;  // of the prompt's tokens, too
  bool embed = false;            // nothing is generated: the mean of the prompt's last hidden states is the answer

  int choice = 0;  // which of the answer's texts this is, where an answer has several
  // Whether the client has left, as far as can be told: asked before every step, by the loop's thread. May be empty.
  std::function<bool()> client_gone;
  // Told what it took at its end, whatever that is and whether or not anybody takes the answer; on the loop's thread, before
  // the last piece. May be empty.
  std::function<void(const Usage&)> pay;

  int n_context() const { return context ? context_tokens.value_or(static_cast<int>(context->tokens.size())) : 0; }
};

struct GenerationTimes {
  Duration queue{};        // submitted -> in the batch
  Duration context{};      // in the batch -> the context's last layer was there
  Duration prefill{};      // engine time spent on the prompt's own tokens
  Duration first_token{};  // submitted -> first token
  Duration decode{};       // first token -> last
};

// A piece of the answer. The last one has `finish` or `error`.
struct GenerationPiece {
  int choice = 0;
  std::vector<TokenText> prompt_tokens;  // with prompt_logprobs, once, before anything of the answer
  std::vector<float> embedding;          // with embed, with finish: of length 1
  std::string text;
  std::vector<TokenText> tokens;
  std::optional<FinishReason> finish;
  std::optional<Error> error;
  Usage usage;                // with finish
  GenerationTimes times;      // with finish
  bool left_context = false;  // with finish: KV of an earlier request was used instead of the context
};

// The channel between the batch loop (puts) and whoever writes the answer (takes), shared by all texts of an answer.
// Thread-safe; the clock must outlive it.
class PieceQueue {
 public:
  explicit PieceQueue(const Clock& clock) : more_(clock) {}

  // The next piece; nullopt if none came within `patience`, so that the caller can check whether its client is still there.
  std::optional<GenerationPiece> take(Duration patience) CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    if (!more_.wait_for(mutex_, patience, [&]() CELSLM_REQUIRES(mutex_) { return !pieces_.empty(); })) return std::nullopt;
    GenerationPiece piece = std::move(pieces_.front());
    pieces_.pop_front();
    return piece;
  }

  void put(GenerationPiece piece) CELSLM_EXCLUDES(mutex_) {
    std::shared_ptr<const std::function<void()>> call;
    {
      const MutexLock lock(mutex_);
      pieces_.push_back(std::move(piece));
      call = on_piece_;
    }
    more_.notify_all();
    if (call) (*call)();
  }

  // `call` is called after each put(), by the thread that puts, and at once if pieces are waiting; empty: no longer.
  void on_piece(std::function<void()> call) CELSLM_EXCLUDES(mutex_) {
    std::shared_ptr<const std::function<void()>> next;
    if (call) next = std::make_shared<const std::function<void()>>(std::move(call));
    const auto now = next;
    bool waiting = false;
    {
      const MutexLock lock(mutex_);
      on_piece_.swap(next);  // the last one goes without the lock: it may own this
      waiting = !pieces_.empty();
    }
    if (now && waiting) (*now)();
  }

 private:
  Mutex mutex_;
  TimedCondition more_;
  std::deque<GenerationPiece> pieces_ CELSLM_GUARDED_BY(mutex_);
  std::shared_ptr<const std::function<void()>> on_piece_ CELSLM_GUARDED_BY(mutex_);
};

// One text that is being generated. Thread-safe.
class Generation {
 public:
  Generation(GenerationRequest generation_request, std::shared_ptr<PieceQueue> pieces)
      : request(std::move(generation_request)), pieces_(std::move(pieces)) {}

  const GenerationRequest request;

  // The next piece of this text or of another one of the same answer.
  std::optional<GenerationPiece> take(Duration patience) { return pieces_->take(patience); }
  void on_piece(std::function<void()> call) { pieces_->on_piece(std::move(call)); }  // of the answer, as PieceQueue's
  void put(GenerationPiece piece) {
    piece.choice = request.choice;
    pieces_->put(std::move(piece));
  }
  bool same_answer(const Generation& other) const { return pieces_ == other.pieces_; }

  // The client has gone: the loop frees the request's place at its next step.
  void cancel() { cancelled_.store(true); }
  bool cancelled() const { return cancelled_.load() || (request.client_gone && request.client_gone()); }

 private:
  std::atomic<bool> cancelled_{false};
  const std::shared_ptr<PieceQueue> pieces_;
};

}  // namespace celslm
