// The input of quality_bench.cpp: contexts with questions, and behind which KV they are to be asked. One JSON object per
// line:
//
//   {"context": 7, "system": TEXT, "reads": [NAME...], "questions": [{"prompt": TEXT, "gold": TEXT}]}
//
// and, where KV is condensed, "study": questions of the same form that it is fitted to (condensed_reads.h). Plain text has
// "plain": true: no chat template is used, and nothing is decoded.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "align/judge/question_batch.h"
#include "core/result.h"
#include "model/text/text.h"

namespace celslm {

struct QualityTask {
  struct Asked {
    std::string prompt;  // the user's turn
    std::string gold;    // a correct answer
  };
  std::int64_t number = 0;  // of the context, repeated in the output
  std::string system;       // the system message: the context
  bool plain = false;       // no chat: `system` is the beginning of a text, prompt and gold are how it goes on
  std::vector<std::string> reads;
  std::vector<Asked> questions;
  std::vector<Asked> study;  // what condensed KV is fitted to
};

// Errors: kNotFound, kIo; kInvalid with the file's name and the line.
Result<std::vector<QualityTask>> read_quality_tasks(const std::filesystem::path& path);

// A task in one model's tokens.
struct QualityPrompts {
  std::vector<Token> context;            // empty where questions are asked without one
  std::vector<AskedQuestion> questions;  // what follows the context
  std::size_t tokens(int limit) const;   // of the longest conversation, with a reply of `limit` tokens
};
// Errors of Text::chat and Text::context; kInternal where a conversation does not begin with its context.
Result<QualityPrompts> prompts_of(const Text& text, const QualityTask& task, bool with_context);

}  // namespace celslm
