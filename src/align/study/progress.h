// What a study of one context has come to, and its form as JSON: docs/study.md.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "align/study/turns.h"
#include "core/hash.h"
#include "core/result.h"

namespace celslm {

inline constexpr int kStudyVersion = 1;

// How questions come about.
enum class AskBy : std::uint8_t {
  kInstruction,  // the model is asked for them: for models that follow instructions
  kUserTurn,     // the model continues where a user's turn begins: for models that were trained on whole conversations
};

// What a study depends on besides text and model. Equal options, text and model on equal machines: equal studies.
struct StudyOptions {
  std::uint64_t seed = 1;
  std::int64_t budget = 50'000;  // tokens read and decoded, the context's among them; never passed
  int questions = 32;            // to keep, at most
  AskBy ask_by = AskBy::kInstruction;
  bool operator==(const StudyOptions&) const = default;
};

struct StudiedQuestion {
  std::string question;
  std::vector<std::string> answers;  // the checked one first
  std::string style;                 // to_string(QuestionStyle), or "user_turn"
  bool closed_book = false;          // the model gives this answer without the context, too
  Teacher teacher;                   // of answers[0]
};

// A part of a study, done or not done: what a state file keeps.
struct StudyRound {
  std::size_t next = 0;                // the turn to ask next
  std::int64_t tokens = 0;             // spent in this round
  int turns = 0;                       // that asked for questions
  int written = 0;                     // questions that could be read
  std::map<std::string, int> dropped;  // questions, by reason
  std::vector<StudiedQuestion> questions;
  bool last = false;
};

// The sum of its rounds.
struct StudyProgress {
  std::size_t rounds = 0;
  std::size_t next = 0;
  std::int64_t tokens = 0;
  int turns = 0;
  int written = 0;
  std::map<std::string, int> dropped;
  std::vector<StudiedQuestion> questions;
  int fruitless = 0;  // rounds at the end that kept nothing
  bool finished = false;

  void add(StudyRound round);
};

nlohmann::json to_json(const StudyRound& round);
Result<StudyRound> round_from(const nlohmann::json& value);  // kInvalid
nlohmann::json to_json(const Teacher& teacher);

// A text that was studied, and what it is called in a file of questions.
struct StudyText {
  std::string id;
  std::string text;    // what follows kTextSystem in the system message; with `system`, the same as that
  std::string system;  // the system message where it is another; empty: kTextSystem and the text
  std::string system_message() const;
};

// One line of a file of questions (docs/questions.md), without a line end.
std::string study_line(const StudyText& text, const StudyProgress& progress, const StudyOptions& options,
                       const Hash256& model);

}  // namespace celslm
