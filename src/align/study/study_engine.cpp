#include "align/study/study_engine.h"

#include <algorithm>
#include <array>

namespace celslm {
namespace {

constexpr int kSharedRoom = 256;     // tokens: the common beginning of prompts
constexpr int kQuestionRoom = 1024;  // tokens that a question and its reply may take

std::vector<ChatMessage> messages_of(const std::string& system, const std::string& user) {
  std::vector<ChatMessage> out;
  if (!system.empty()) out.push_back({.role = "system", .content = system});
  out.push_back({.role = "user", .content = user});
  return out;
}

// A conversation up to where the user's words begin.
Result<std::vector<Token>> opening_of(const Text& text, const std::string& system) {
  CELSLM_TRY(auto one, text.chat(messages_of(system, "x")));
  CELSLM_TRY(const auto other, text.chat(messages_of(system, "7")));
  one.erase(std::ranges::mismatch(one, other).in1, one.end());
  return one;
}

}  // namespace

std::optional<Token> end_of_turn(const Text& text) {
  const ChatMessage user{.role = "user", .content = "x"};
  const ChatMessage assistant{.role = "assistant", .content = "x"};
  const auto before = text.chat(std::array{user});
  const auto all = text.chat(std::array{user, assistant, user});
  if (!before || !all || !std::ranges::starts_with(*all, *before)) return {};
  const auto end = std::find_if(all->begin() + static_cast<std::ptrdiff_t>(before->size()), all->end(),
                                [&](Token token) { return text.ends_generation(token); });
  if (end == all->end()) return {};
  return *end;
}

// A batch that first makes sure of the context.
class EngineTurns final : public TurnBatch {
 public:
  EngineTurns(StudyEngine& study, std::vector<DecodeTurn> turns, bool with_context)
      : study_(study), turns_(std::move(turns)), with_context_(with_context) {}

  Result<bool> step() override {
    if (!batch_) {
      if (with_context_) {
        CELSLM_TRY(const bool ready, study_.prepare());
        if (!ready) return false;
      }
      batch_.emplace(study_.engine_, with_context_ ? study_.segment_ : nullptr, std::move(turns_));
    }
    return batch_->step();
  }

  std::vector<std::vector<Reply>> take() override {
    std::vector<std::vector<Reply>> out;
    for (auto& turn : batch_->take()) {
      std::vector<Reply>& replies = out.emplace_back();
      for (DecodedReply& decoded : turn) replies.push_back(reply_of(std::move(decoded)));
    }
    return out;
  }

  std::int64_t tokens() const override { return batch_ ? batch_->tokens() : 0; }

 private:
  Reply reply_of(DecodedReply decoded) const {
    const auto text = std::span(decoded.tokens).first(decoded.tokens.size() - (decoded.ended ? 1 : 0));
    Reply out{.text = study_.engine_.model().text().detokenize(text), .ended = decoded.ended};
    if (!decoded.top.empty()) out.teacher = {.tokens = std::move(decoded.tokens), .top = std::move(decoded.top)};
    return out;
  }

  StudyEngine& study_;
  std::vector<DecodeTurn> turns_;
  const bool with_context_;
  std::optional<DecodeBatch> batch_;
};

Result<std::unique_ptr<StudyEngine>> StudyEngine::create(Engine& engine, std::string system) {
  CELSLM_CHECK_OK(check_rows_only(engine.model().config()));  // turns go back to the end of what they share
  std::unique_ptr<StudyEngine> out(new StudyEngine(engine, std::move(system)));
  if (!out->system_.empty()) {
    CELSLM_TRY(out->context_, engine.model().text().context(out->system_));
  }
  const int n_ctx = engine.model().config().n_ctx_train;
  if (out->context_tokens() + std::min(kQuestionRoom, n_ctx / 2) > n_ctx) {
    return fail(ErrorKind::kInvalid, "the context has {} tokens; the model takes {}, which leaves too few for questions",
                out->context_tokens(), n_ctx);
  }
  return out;
}

Result<std::vector<Token>> StudyEngine::prompt_of(const std::string& user, bool with_context) const {
  const Text& text = engine_.model().text();
  CELSLM_TRY(auto prompt, user.empty() ? opening_of(text, with_context ? system_ : "")
                                       : text.chat(messages_of(with_context ? system_ : "", user)));
  if (!with_context) return prompt;
  if (!std::ranges::starts_with(prompt, context_))
    return fail(ErrorKind::kInternal, "a conversation does not begin with its context's tokens");
  prompt.erase(prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(context_.size()));
  if (prompt.empty()) return fail(ErrorKind::kInvalid, "nothing comes between the context and the user's words");
  return prompt;
}

Result<std::int64_t> StudyEngine::most_tokens(const Turn& turn, bool with_context) const {
  CELSLM_TRY(const auto prompt, prompt_of(turn.user, with_context));
  return static_cast<std::int64_t>(prompt.size()) +
         static_cast<std::int64_t>(turn.continuations.size()) * static_cast<std::int64_t>(turn.limit);
}

Result<bool> StudyEngine::prepare() {
  if (context_.empty() || (prefill_ && prefill_->finished())) return true;
  if (!prefill_) {
    CELSLM_TRY(segment_, KvSegment::create(engine_.model().config(), KvType::kF16, 0, context_tokens() + kSharedRoom));
    CELSLM_TRY(prefill_, ContextPrefill::start(engine_, context_, segment_));
  }
  CELSLM_CHECK_OK(prefill_->advance());
  return prefill_->finished();
}

Result<std::unique_ptr<TurnBatch>> StudyEngine::start_all(std::vector<DecodeTurn> turns, bool with_context) {
  if (turns.empty()) return fail(ErrorKind::kInternal, "a batch of no turns");
  return std::make_unique<EngineTurns>(*this, std::move(turns), with_context && !context_.empty());
}

Result<std::unique_ptr<TurnBatch>> StudyEngine::start(std::span<const Turn> turns, bool with_context) {
  std::vector<DecodeTurn> out;
  for (const Turn& turn : turns) {
    CELSLM_TRY(auto prompt, prompt_of(turn.user, with_context));
    out.push_back({.prompt = std::move(prompt), .continuations = turn.continuations, .limit = turn.limit});
  }
  return start_all(std::move(out), with_context);
}

Result<std::unique_ptr<TurnBatch>> StudyEngine::start_forced(std::span<const Turn> turns,
                                                             std::vector<std::vector<Token>> replies) {
  std::vector<DecodeTurn> out;
  for (std::size_t i = 0; i < turns.size(); ++i) {
    CELSLM_TRY(auto prompt, prompt_of(turns[i].user, true));
    out.push_back({.prompt = std::move(prompt),
                   .continuations = turns[i].continuations,
                   .limit = static_cast<int>(replies[i].size()),
                   .forced = std::move(replies[i])});
  }
  return start_all(std::move(out), true);
}

}  // namespace celslm
