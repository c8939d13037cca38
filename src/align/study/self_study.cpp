#include "align/study/self_study.h"

#include <algorithm>

#include "align/study/pairs.h"
#include "align/study/words.h"

namespace celslm {
namespace {

constexpr int kBatch = 32;  // turns at a time
constexpr int kPairs = 4;   // questions asked for in a turn
constexpr int kPairTokens = 40;
constexpr int kAnswerTokens = 24;  // as `bench quality` allows
constexpr float kAskTemperature = 0.7F;
constexpr float kCheckTemperature = 0.7F;
constexpr double kKeptOfAsked = 0.3;  // what to expect; decides only how many turns a round has
constexpr int kUserTurnTokens = 40;
constexpr std::size_t kMostUserTurns = 1U << 16;
constexpr int kMostFruitless = 3;  // rounds

}  // namespace

SelfStudy::SelfStudy(StudyModel& model, std::string text, StudyOptions options, StudyProgress progress)
    : model_(model),
      text_(std::move(text)),
      options_(options),
      passages_(passages_of(text_)),
      progress_(std::move(progress)),
      seen_(!by_instruction()) {
  for (const StudiedQuestion& question : progress_.questions) seen_.add(question.question, question.answers.front());
}

Result<std::optional<StudyRound>> SelfStudy::advance() {
  if (!batch_) return begin_round();
  CELSLM_TRY(const bool done, batch_->step());
  if (!done) return std::nullopt;
  return end_phase();
}

std::size_t SelfStudy::missing() const {
  const auto wanted = static_cast<std::size_t>(options_.questions);
  return wanted > kept() ? wanted - kept() : 0;
}

Result<std::optional<StudyRound>> SelfStudy::begin_round() {
  round_ = {.next = progress_.next};
  if (progress_.rounds == 0) round_.tokens = model_.context_tokens();
  const bool enough = missing() == 0 || progress_.fruitless >= kMostFruitless;
  const std::size_t most_turns = by_instruction() ? 2 * all_turns(passages_) : kMostUserTurns;
  if (enough || passages_.empty() || progress_.next >= most_turns) return end_round(true);
  CELSLM_TRY(auto turns, asking_turns());
  if (turns.empty()) {
    if (progress_.rounds == 0) round_.tokens = 0;  // nothing was computed
    return end_round(true);
  }
  round_.turns = static_cast<int>(turns.size());
  round_.next = progress_.next + turns.size();
  candidates_.clear();
  answered_ = 0;
  CELSLM_CHECK_OK(start(std::move(turns), Phase::kAsking));
  return std::nullopt;
}

// As many as it takes, by experience, to keep what is missing; for half of the tokens left, so that answers can be checked.
Result<std::vector<Turn>> SelfStudy::asking_turns() {
  const double wanted = static_cast<double>(missing()) / kKeptOfAsked / kPairs;
  const auto n = static_cast<std::size_t>(by_instruction() ? std::clamp(wanted + 1.0, 1.0, 1.0 * kBatch) : 1.0 * kBatch);
  std::vector<Turn> out;
  asked_.clear();
  for (std::size_t i = 0; i < n; ++i) {
    asked_.push_back(plan_turn(passages_, options_.seed, progress_.next + i));
    const std::uint32_t seed = asked_.back().seed;
    if (by_instruction()) {
      out.push_back({.user = ask_prompt(passages_, asked_.back(), kPairs),
                     .continuations = {{.temperature = kAskTemperature, .seed = seed}},
                     .limit = kPairs * kPairTokens});
    } else {
      out.push_back({.continuations = {{.temperature = 1.0F, .seed = seed, .wide = true}}, .limit = kUserTurnTokens});
    }
  }
  CELSLM_TRY(const std::size_t paid, affordable(out, true, tokens_left() / 2));
  out.resize(paid);
  return out;
}

// How many of the first turns cost no more than that.
Result<std::size_t> SelfStudy::affordable(std::span<const Turn> turns, bool with_context, std::int64_t tokens) const {
  for (std::size_t i = 0; i < turns.size(); ++i) {
    CELSLM_TRY(const std::int64_t cost, model_.most_tokens(turns[i], with_context));
    tokens -= cost;
    if (tokens < 0) return i;
  }
  return turns.size();
}

Status SelfStudy::start(std::vector<Turn> turns, Phase phase) {
  CELSLM_TRY(batch_, model_.start(turns, phase != Phase::kClosedBook));
  phase_ = phase;
  return {};
}

Result<std::optional<StudyRound>> SelfStudy::end_phase() {
  round_.tokens += batch_->tokens();
  auto replies = batch_->take();
  batch_.reset();
  switch (phase_) {
    case Phase::kAsking:
      if (by_instruction()) {
        read_pairs(replies);
      } else {
        read_turns(replies);
      }
      return begin_answering();
    case Phase::kAnswering: read_answers(std::move(replies)); return begin_answering();
    case Phase::kClosedBook: read_closed_book(replies); return end_round(false);
  }
  return end_round(false);
}

Turn SelfStudy::answer_turn(const std::string& question, std::vector<Continuation> continuations) const {
  return {.user = by_instruction() ? question + std::string(kBriefly) : question,
          .continuations = std::move(continuations),
          .limit = kAnswerTokens};
}

void SelfStudy::sort(Candidate candidate, std::optional<const char*> reason, SeenQuestions& seen) {
  if (!reason && !seen.add(candidate.question, candidate.written)) reason = dropped::kDuplicate;
  if (reason) {
    ++round_.dropped[*reason];
  } else {
    candidates_.push_back(std::move(candidate));
  }
}

void SelfStudy::read_pairs(const std::vector<std::vector<Reply>>& replies) {
  SeenQuestions seen = seen_;
  for (std::size_t i = 0; i < replies.size(); ++i) {
    const Reply& reply = replies[i].front();
    for (QaPair& pair : parse_pairs(reply.text, reply.ended, kPairs)) {
      ++round_.written;
      Candidate candidate{.question = std::move(pair.question), .written = std::move(pair.answer), .style = asked_[i].style};
      const auto reason = check_written(candidate);
      sort(std::move(candidate), reason, seen);
    }
  }
}

void SelfStudy::read_turns(const std::vector<std::vector<Reply>>& replies) {
  SeenQuestions seen = seen_;
  for (const auto& turn : replies) {
    ++round_.written;
    sort({.question = kept_answer(turn.front().text)}, check_user_turn(turn.front(), text_), seen);
  }
}

Result<std::optional<StudyRound>> SelfStudy::begin_answering() {
  std::vector<Turn> turns;
  const std::size_t rest = missing() == 0 ? 0 : candidates_.size() - answered_;
  for (std::size_t i = 0; i < std::min<std::size_t>(rest, kBatch); ++i) {
    const std::uint32_t seed = asked_.front().seed + static_cast<std::uint32_t>(answered_ + i);
    turns.push_back(answer_turn(candidates_[answered_ + i].question,
                                {{.teacher = true}, {.temperature = kCheckTemperature, .seed = seed}}));
  }
  CELSLM_TRY(const std::size_t paid, affordable(turns, true, tokens_left()));
  turns.resize(paid);
  if (turns.empty()) {
    if (answered_ < candidates_.size())
      round_.dropped[dropped::kNotChecked] += static_cast<int>(candidates_.size() - answered_);
    return begin_closed_book();
  }
  CELSLM_CHECK_OK(start(std::move(turns), Phase::kAnswering));
  return std::nullopt;
}

void SelfStudy::read_answers(std::vector<std::vector<Reply>> replies) {
  for (std::vector<Reply>& both : replies) {
    const Candidate& candidate = candidates_[answered_++];
    auto reason =
        by_instruction() ? check_answers(candidate, both[0], both[1], text_) : check_equal_answers(both[0], both[1], text_);
    const std::string answer = kept_answer(both[0].text);
    if (!reason && missing() == 0) reason = dropped::kNotChecked;
    if (!reason && !seen_.add(candidate.question, answer)) reason = dropped::kDuplicate;
    if (reason) {
      ++round_.dropped[*reason];
      continue;
    }
    StudiedQuestion kept{.question = candidate.question,
                         .answers = {answer},
                         .style = by_instruction() ? to_string(candidate.style) : kUserTurnStyle,
                         .teacher = std::move(both[0].teacher)};
    if (by_instruction() && normalised(candidate.written) != normalised(answer)) kept.answers.push_back(candidate.written);
    round_.questions.push_back(std::move(kept));
  }
}

Result<std::optional<StudyRound>> SelfStudy::begin_closed_book() {
  std::vector<Turn> turns;
  turns.reserve(round_.questions.size());
  for (const StudiedQuestion& question : round_.questions) turns.push_back(answer_turn(question.question, {{}}));
  CELSLM_TRY(const std::size_t paid, affordable(turns, false, tokens_left()));
  turns.resize(paid);
  if (turns.empty()) return end_round(false);
  CELSLM_CHECK_OK(start(std::move(turns), Phase::kClosedBook));
  return std::nullopt;
}

void SelfStudy::read_closed_book(const std::vector<std::vector<Reply>>& replies) {
  for (std::size_t i = 0; i < replies.size(); ++i) {
    StudiedQuestion& question = round_.questions[i];
    const std::string& closed = replies[i].front().text;
    question.closed_book = by_instruction() ? answers_agree(question.answers.front(), closed)
                                            : normalised(question.answers.front()) == normalised(closed);
  }
}

std::optional<StudyRound> SelfStudy::end_round(bool last) {
  round_.last = last;
  StudyRound out = std::move(round_);
  round_ = {};
  progress_.add(out);
  return out;
}

}  // namespace celslm
