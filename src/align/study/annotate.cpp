#include "align/study/annotate.h"

#include <algorithm>
#include <span>

namespace celslm {
namespace {

constexpr std::size_t kTogether = 64;  // questions

}  // namespace

Result<Annotated> annotate(Engine& engine, const QuestionsLine& line, const std::function<bool()>& keep_on) {
  CELSLM_TRY(const auto study, StudyEngine::create(engine, line.text.system_message()));
  const Text& text = engine.model().text();
  const auto end = end_of_turn(text);
  Annotated out{.tokens = study->context_tokens()};
  auto questions = std::span(line.questions);
  while (!questions.empty()) {
    const auto some = questions.first(std::min(kTogether, questions.size()));
    questions = questions.subspan(some.size());
    std::vector<Turn> turns;
    std::vector<std::vector<Token>> replies;
    for (const QuestionsLine::Asked& asked : some) {
      turns.push_back({.user = asked.prompt, .continuations = {{.teacher = true}}});
      replies.push_back(text.tokenize(asked.gold, false, false));
      if (end) replies.back().push_back(*end);
    }
    CELSLM_TRY(const auto batch, study->start_forced(turns, std::move(replies)));
    for (bool done = false; !done;) {
      if (!keep_on()) return fail(ErrorKind::kCancelled, "the annotation was stopped");
      CELSLM_TRY(done, batch->step());
    }
    out.tokens += batch->tokens();
    for (auto& reply : batch->take()) out.teachers.push_back(std::move(reply.front().teacher));
  }
  return out;
}

}  // namespace celslm
