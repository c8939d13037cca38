// Choosing tokens under a grammar without waiting for it: what the sampler chose is offered to the constraint; if the
// grammar does not allow it, the sampler chooses again among what it allows. That is the sampler's distribution, given that
// the token is allowed.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "model/constraint/constraint.h"
#include "model/text/sampler.h"
#include "model/text/text.h"

namespace celslm {

// One answer's. One thread at a time. Text must outlive it.
class ConstrainedChoice {
 public:
  // triggers: of the GrammarSpec that the constraint was made for.
  ConstrainedChoice(const Text& text, Sampler sampler, std::unique_ptr<Constraint> constraint,
                    std::vector<std::string> triggers);

  // Begins to choose from these logits [n_vocab], which are copied. Not while a choice is under way.
  void begin(std::span<const float> logits, int n_top);
  bool under_way() const { return under_way_; }
  // The token, once it is certain. After an error the answer cannot go on: kInvalid, kUnavailable as Constraint.
  std::optional<Result<Sampled>> poll();
  // Waits for the constraint, not longer than `time`, and once for each question: an answer that takes longer than that is
  // not waited for again.
  void wait_briefly(Duration time);

 private:
  bool inside() const { return started_ || triggers_.empty(); }
  void pick();
  void exclude(const Verdict& verdict);
  std::string text_from_trigger(const std::string& piece) const;
  Sampled finished();

  const Text* text_;
  Sampler sampler_;
  std::unique_ptr<Constraint> constraint_;
  std::vector<std::string> triggers_;
  std::size_t longest_trigger_ = 0;
  std::string tail_;      // of the answer so far, where a trigger may have begun
  bool started_ = false;  // a trigger has come

  bool under_way_ = false;
  bool asked_ = false;   // the constraint; else the candidate is certain
  bool waited_ = false;  // for this question
  int n_refused_ = 0;    // candidates of this choice that would have begun the grammar wrongly
  std::vector<float> logits_;
  float log_sum_ = 0.0F;
  std::vector<TokenLogprob> top_;
  Token candidate_ = 0;
};

}  // namespace celslm
