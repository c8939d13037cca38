// The texts that are studied, and files of questions that are annotated: read, and recognised when they were done before.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "align/study/progress.h"
#include "core/result.h"

namespace celslm {

// A file of plain text as one context; its id is the file's name. Errors: kNotFound, kIo; kInvalid for text that is empty
// or not UTF-8, with the file's name.
Result<StudyText> read_study_text(const std::filesystem::path& path);

// The contexts of a file of questions (docs/questions.md), or the bulletins of models/worlds (.json): their texts alone.
// Errors as above, with the line.
Result<std::vector<StudyText>> read_study_contexts(const std::filesystem::path& path);

// A line of a file of questions, to be annotated.
struct QuestionsLine {
  struct Asked {
    std::string prompt;  // the user's turn
    std::string gold;    // the first answer
  };
  std::string line;  // JSON
  StudyText text;
  std::vector<Asked> questions;
};
// Of a file of questions, or of bulletins (.json). Errors as above.
Result<std::vector<QuestionsLine>> read_questions(const std::filesystem::path& path);
// The line with `teacher` in each question, and `study` beside them. teachers: one for each question.
std::string annotated_line(const QuestionsLine& line, const std::vector<Teacher>& teachers, std::int64_t tokens,
                           const Hash256& model);

// Makes the ids differ: a second "a" becomes "a#2".
void make_unique(const std::vector<StudyText*>& texts);

}  // namespace celslm
