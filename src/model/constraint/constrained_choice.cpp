#include "model/constraint/constrained_choice.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "model/numeric/logits.h"

namespace celslm {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
constexpr int kMostRefused = 64;  // of the candidates of one choice

}  // namespace

ConstrainedChoice::ConstrainedChoice(const Text& text, Sampler sampler, std::unique_ptr<Constraint> constraint,
                                     std::vector<std::string> triggers)
    : text_(&text), sampler_(std::move(sampler)), constraint_(std::move(constraint)), triggers_(std::move(triggers)) {
  std::erase(triggers_, "");
  for (const std::string& trigger : triggers_) longest_trigger_ = std::max(longest_trigger_, trigger.size());
}

void ConstrainedChoice::begin(std::span<const float> logits, int n_top) {
  logits_.assign(logits.begin(), logits.end());
  log_sum_ = log_sum_exp(logits);
  if (n_top > 0) top_ = Sampler::described(0, logits, n_top).top;
  under_way_ = true;
  n_refused_ = 0;
  pick();
}

void ConstrainedChoice::pick() {
  candidate_ = sampler_.choose(logits_);
  waited_ = false;
  asked_ = true;
  if (inside()) return constraint_->offer(candidate_);
  const std::string beginning = text_from_trigger(text_->piece(candidate_, true));
  if (!beginning.empty()) return constraint_->begin(beginning);
  asked_ = false;
}

// What the grammar would begin with if this came next: from the first trigger on. Empty: no trigger is complete yet.
std::string ConstrainedChoice::text_from_trigger(const std::string& piece) const {
  const std::string text = tail_ + piece;
  std::size_t first = std::string::npos;
  for (const std::string& trigger : triggers_) first = std::min(first, text.find(trigger));
  return first == std::string::npos ? "" : text.substr(first);
}

std::optional<Result<Sampled>> ConstrainedChoice::poll() {
  while (asked_) {
    auto verdict = constraint_->take_answer();
    if (!verdict) return std::nullopt;
    if (!*verdict) return std::unexpected(verdict->error());
    if ((*verdict)->accepted) {
      started_ = true;
      break;
    }
    exclude(**verdict);
  }
  return finished();
}

// Chooses again among what is left; where nothing is, the answer ends.
void ConstrainedChoice::exclude(const Verdict& verdict) {
  if (!inside()) {
    logits_[static_cast<std::size_t>(candidate_)] = kNever;
    if (++n_refused_ <= kMostRefused) return pick();
  } else if (!verdict.allowed.empty()) {
    for (std::size_t i = 0; i < logits_.size(); ++i) {
      if (!verdict.allowed.has(static_cast<Token>(i))) logits_[i] = kNever;
    }
    return pick();
  }
  candidate_ = end_token(*text_);
  asked_ = false;
}

Sampled ConstrainedChoice::finished() {
  under_way_ = false;
  asked_ = false;
  sampler_.accept(candidate_);
  if (!inside()) {
    tail_ += text_->piece(candidate_, true);
    if (tail_.size() >= longest_trigger_) tail_.erase(0, tail_.size() - longest_trigger_ + 1);
  }
  const float logit = logits_[static_cast<std::size_t>(candidate_)];
  return {.token = candidate_, .logprob = logit - log_sum_, .top = std::move(top_)};
}

void ConstrainedChoice::wait_briefly(Duration time) {
  if (!asked_ || std::exchange(waited_, true)) return;
  constraint_->wait(time);
}

}  // namespace celslm
