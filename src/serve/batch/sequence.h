// A request inside the batch loop: its tokens, its KV, and the answer as far as it has come.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "core/clock.h"
#include "model/constraint/constrained_choice.h"
#include "model/engine/engine.h"
#include "model/text/sampler.h"
#include "serve/batch/generation.h"

namespace celslm {

// How a request's tokens are chosen: at once, or under a grammar.
using TokenChoice = std::variant<Sampler, ConstrainedChoice>;

// Used by the loop's thread alone, once it is in the scheduler. tokens() are the request's prompt and the answer so far;
// kv() holds the KV of the first done() of them. In phase kAnswer all of them but the last have passed the layers.
class Sequence {
 public:
  enum class Phase { kPrompt, kAnswer, kEnded };

  Sequence(std::shared_ptr<Generation> generation, TokenChoice choice, std::uint64_t number, TimePoint now);

  const GenerationRequest& request() const { return generation_->request; }
  const std::shared_ptr<ResidentContext>& context() const { return context_; }
  Phase phase() const { return phase_; }
  bool cancelled() const { return generation_->cancelled(); }
  std::uint64_t number() const { return number_; }  // in order of arrival
  int n_context() const { return n_context_; }      // tokens of the context that are attended
  const std::string& owner() const { return request().owner; }
  // Does without its context from now on: the tokens it had from there become its own. Only while it has no KV.
  void leave_context();
  void set_number(std::uint64_t number) { number_ = number; }
  bool same_answer(const Sequence& other) const { return generation_->same_answer(*other.generation_); }

  std::span<const Token> tokens() const { return tokens_; }
  int done() const { return own_ ? own_->length() : 0; }  // of tokens(), have passed all layers
  std::span<const Token> rest() const { return std::span(tokens_).subspan(static_cast<std::size_t>(done())); }
  int most_tokens() const { return n_prompt_ + request().max_tokens; }

  bool has_kv() const { return own_ != nullptr; }
  std::shared_ptr<KvSegment> kv() const { return own_; }
  void give_kv(std::shared_ptr<KvSegment> own) { own_ = std::move(own); }
  // Counts tokens whose KV was copied from another request and need not be computed.
  void count_reused(int n_tokens) { reused_ += n_tokens; }
  // Every row of the prompt counts, not only the last: none may be copied from elsewhere.
  bool needs_rows() const {
    return phase_ == Phase::kPrompt && produced_ == 0 && (request().embed || request().prompt_logprobs);
  }
  // Frees its KV; its tokens will be computed again.
  void preempt();

  // The chunk of n_tokens that follows done().
  SequenceChunk chunk(int n_tokens) const {
    return {.context = context() ? context()->segment : nullptr,
            .own = own_,
            .own_length = done(),
            .n_tokens = n_tokens,
            .context_rows = context() ? request().context_tokens : std::nullopt};
  }

  // The prompt's step under way: hidden states after `layer` layers; none between steps.
  Hidden hidden;
  int layer = 0;

  void begin_running(TimePoint now);
  void note_context_ready(TimePoint now);
  void add_prefill(Duration time) { prefill_ += time; }
  void begin_answer(TimePoint now);

  // The final hidden states after the norm, or the logits, of rows [first, first + n) of tokens(), with embed or
  // prompt_logprobs. What was taken before (the sequence was preempted since) is left out.
  void take_rows(std::span<const float> normed, int first, int n);
  void take_row_logits(const Text& text, std::span<const float> logits, int row);

  // Chooses a token from logits [n_vocab] and passes it on; may end the sequence. With a grammar the choice may take longer:
  // until then choosing() is true and the sequence is left out of batches.
  void accept(const Text& text, std::span<const float> logits, TimePoint now);
  bool choosing() const;
  // Waits for the grammar, not longer than `time`, and once for each question to it.
  void wait_for_choice(Duration time);
  // Ends a choice that has become certain; may end the sequence. False if there is none.
  bool end_choice(const Text& text, TimePoint now);
  // Each ends the sequence; none of them does anything to one that has ended.
  void finish(FinishReason reason, TimePoint now);
  void fail(const Error& error);

  // How it ended: with an error, or else for this reason.
  const std::optional<Error>& error() const { return error_; }
  FinishReason finish_reason() const { return finish_reason_; }

 private:
  struct HeldToken {
    TokenText token;
    std::size_t begin = 0;  // of its text, in bytes of the answer
  };
  TokenText token_text(const Text& text, Token token, std::span<const float> logits) const;
  void take(const Text& text, const Sampled& sampled, TimePoint now);
  void send(const Text& text, const Sampled& sampled);
  std::vector<TokenText> certain_tokens();
  std::vector<float> embedding() const;
  Usage usage() const;
  void pay() const;

  const std::shared_ptr<Generation> generation_;
  std::uint64_t number_;
  TokenChoice choice_;
  TextAssembler assembler_;
  std::deque<HeldToken> held_;  // whose text may still turn out to be a stop string's
  std::size_t generated_bytes_ = 0;
  std::vector<TokenText> prompt_tokens_;
  std::vector<double> row_sum_;  // [n_embd]
  int rows_taken_ = 0;
  std::shared_ptr<ResidentContext> context_;
  int n_context_;
  std::vector<Token> tokens_;
  int n_prompt_;  // of tokens_, the prompt
  std::shared_ptr<KvSegment> own_;
  Phase phase_ = Phase::kPrompt;
  std::optional<Error> error_;
  FinishReason finish_reason_ = FinishReason::kStop;
  int produced_ = 0;
  int reused_ = 0;

  TimePoint submitted_;
  TimePoint started_{};
  TimePoint context_ready_{};
  TimePoint first_token_{};
  Duration prefill_{};
};

}  // namespace celslm
