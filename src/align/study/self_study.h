// A model studies one context: it asks itself about it, checks its answers, and keeps what holds.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "align/study/checks.h"
#include "align/study/progress.h"
#include "align/study/prompts.h"
#include "align/study/turns.h"
#include "core/result.h"

namespace celslm {

// Works in rounds: some turns that ask for questions, all their questions answered again with the context (greedily, which
// also gives the teacher's distributions, and by chance), those kept asked without it. A round depends on the progress
// before it alone, so a study that is stopped and goes on after the last round ends as one that never stopped.
//
// Used by one thread. The model must outlive this.
class SelfStudy {
 public:
  // progress: of an earlier study of the same text with the same options.
  SelfStudy(StudyModel& model, std::string text, StudyOptions options, StudyProgress progress = {});

  // A pass of the model, at most. A round, once one has ended: the last one has `last` set, and no call may follow it.
  // An error leaves the progress at the last round.
  Result<std::optional<StudyRound>> advance();

  const StudyProgress& progress() const { return progress_; }

 private:
  enum class Phase { kAsking, kAnswering, kClosedBook };

  Result<std::optional<StudyRound>> begin_round();
  Result<std::optional<StudyRound>> end_phase();
  Result<std::optional<StudyRound>> begin_answering();
  Result<std::optional<StudyRound>> begin_closed_book();
  std::optional<StudyRound> end_round(bool last);

  void read_turns(const std::vector<std::vector<Reply>>& replies);
  void read_pairs(const std::vector<std::vector<Reply>>& replies);
  void read_answers(std::vector<std::vector<Reply>> replies);
  void read_closed_book(const std::vector<std::vector<Reply>>& replies);
  void sort(Candidate candidate, std::optional<const char*> reason, SeenQuestions& seen);
  bool by_instruction() const { return options_.ask_by == AskBy::kInstruction; }
  Turn answer_turn(const std::string& question, std::vector<Continuation> continuations) const;
  Result<std::vector<Turn>> asking_turns();
  Result<std::size_t> affordable(std::span<const Turn> turns, bool with_context, std::int64_t tokens) const;
  Status start(std::vector<Turn> turns, Phase phase);

  std::int64_t tokens_left() const { return options_.budget - progress_.tokens - round_.tokens; }
  std::size_t kept() const { return progress_.questions.size() + round_.questions.size(); }
  std::size_t missing() const;

  StudyModel& model_;
  const std::string text_;
  const StudyOptions options_;
  const std::vector<Passage> passages_;
  StudyProgress progress_;
  SeenQuestions seen_;

  // The round under way.
  StudyRound round_;
  Phase phase_ = Phase::kAsking;
  std::vector<AskPlan> asked_;         // by turn
  std::vector<Candidate> candidates_;  // to be answered, those from answered_ on
  std::size_t answered_ = 0;
  std::unique_ptr<TurnBatch> batch_;  // null: between two phases
};

}  // namespace celslm
