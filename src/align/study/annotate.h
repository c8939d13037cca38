// A model's distributions on answers that are given.
#pragma once

#include <functional>
#include <vector>

#include "align/study/sources.h"
#include "align/study/study_engine.h"
#include "core/result.h"

namespace celslm {

struct Annotated {
  std::vector<Teacher> teachers;  // one for each question
  std::int64_t tokens = 0;        // spent, the context's among them
};

// Teacher-forced on each question's gold answer and the token that ends a turn, behind the context. `keep_on` is called
// between passes of the model: false ends with kCancelled. Errors of StudyEngine and the engine.
Result<Annotated> annotate(Engine& engine, const QuestionsLine& line, const std::function<bool()>& keep_on);

}  // namespace celslm
