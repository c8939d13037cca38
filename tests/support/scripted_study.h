// A model that follows a script, for tests of self-study.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "align/study/turns.h"

namespace celslm::testing_support {

// A text about boats and captains, long enough for many questions.
inline std::string boats() {
  std::string out;
  for (int i = 0; i < 60; ++i)
    out += "Boat Dora" + std::to_string(i) + " belongs to captain Ann" + std::to_string(i) + " and lies in Leith. ";
  return out;
}

// Answers at once. Asked for questions, it writes four about boats, other ones each time; asked one of them, it knows. As a
// user it asks one question, sometimes about a boat that is not in the text.
class ScriptedModel final : public StudyModel {
 public:
  static constexpr int kContextTokens = 500;
  static constexpr std::int64_t kPromptTokens = 30;

  ScriptedModel() = default;
  ~ScriptedModel() override {
    if (on_end) on_end();
  }
  ScriptedModel(const ScriptedModel&) = delete;
  ScriptedModel& operator=(const ScriptedModel&) = delete;

  std::function<std::string(const Turn& turn, const Continuation& how, bool with_context)> says = answer;
  std::vector<std::string> heard;
  std::function<Status(int batches)> on_start;  // before a batch, after so many; an error becomes that of the batch
  std::function<void()> on_end;
  int batches = 0;
  std::int64_t spent = 0;

  int context_tokens() const override { return kContextTokens; }
  Result<std::int64_t> most_tokens(const Turn& turn, bool /*with_context*/) const override {
    return kPromptTokens + static_cast<std::int64_t>(turn.continuations.size()) * turn.limit;
  }
  Result<std::unique_ptr<TurnBatch>> start(std::span<const Turn> turns, bool with_context) override {
    if (on_start) CELSLM_CHECK_OK(on_start(batches));
    ++batches;
    auto out = std::make_unique<Scripted>();
    for (const Turn& turn : turns) {
      heard.push_back(turn.user);
      auto& replies = out->replies.emplace_back();
      for (const Continuation& how : turn.continuations) {
        Reply& reply = replies.emplace_back(Reply{.text = says(turn, how, with_context), .ended = true});
        if (how.teacher) reply.teacher = {.tokens = {1, 2}, .top = {{{.token = 1, .logprob = -0.12345F}}, {}}};
      }
      out->spent += kPromptTokens + 2 * static_cast<std::int64_t>(turn.continuations.size());
    }
    spent += out->spent;
    return out;
  }

  static std::string answer(const Turn& turn, const Continuation& how, bool with_context) {
    if (turn.user.empty()) return "Which captain has boat Dora" + std::to_string(how.seed % 80) + "?";
    if (!turn.user.starts_with("Write 4 questions")) {
      if (!with_context) return "nobody";
      const std::size_t at = turn.user.find("Dora");
      return "Ann" + turn.user.substr(at + 4, turn.user.find_first_not_of("0123456789", at + 4) - at - 4);
    }
    std::string out;
    for (std::uint32_t i = 0; i < 4; ++i) {
      const std::string number = std::to_string((how.seed % 15) * 4 + i);
      out += "Q: Which captain has boat Dora" + number + " on the list?\nA: Ann" + number + "\n";
    }
    return out;
  }

 private:
  struct Scripted final : TurnBatch {
    std::vector<std::vector<Reply>> replies;
    std::int64_t spent = 0;
    bool stepped = false;
    Result<bool> step() override { return std::exchange(stepped, true); }
    std::vector<std::vector<Reply>> take() override { return std::move(replies); }
    std::int64_t tokens() const override { return spent; }
  };
};

}  // namespace celslm::testing_support
