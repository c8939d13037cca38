// A study's turns, on the engine.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "align/study/decode_batch.h"
#include "align/study/turns.h"
#include "core/result.h"
#include "model/engine/engine.h"
#include "model/engine/prefill.h"

namespace celslm {

// The token that ends an assistant's turn in this model's template; none where the template writes no such token.
std::optional<Token> end_of_turn(const Text& text);

// One context: its KV is computed when first needed, in small steps, and held.
class StudyEngine final : public StudyModel {
 public:
  // system: the context, as the chat's system message; empty: none, every turn is asked without. Errors of Text::context;
  // kInvalid for a context that leaves the model no room for questions. The engine must outlive this.
  static Result<std::unique_ptr<StudyEngine>> create(Engine& engine, std::string system);

  int context_tokens() const override { return static_cast<int>(context_.size()); }
  Result<std::int64_t> most_tokens(const Turn& turn, bool with_context) const override;
  Result<std::unique_ptr<TurnBatch>> start(std::span<const Turn> turns, bool with_context) override;

  // The same for turns whose replies are given: their tokens, one list a turn, each not empty.
  Result<std::unique_ptr<TurnBatch>> start_forced(std::span<const Turn> turns, std::vector<std::vector<Token>> replies);

  // What follows the context when a user asks this; up to where the user's words begin, if there are none. Errors of
  // Text::chat; kInternal where the conversation does not begin with the context's tokens.
  Result<std::vector<Token>> prompt_of(const std::string& user, bool with_context) const;

  // Computes a little of the context; true once all of it is there.
  Result<bool> prepare();

 private:
  StudyEngine(Engine& engine, std::string system) : engine_(engine), system_(std::move(system)) {}
  Result<std::unique_ptr<TurnBatch>> start_all(std::vector<DecodeTurn> turns, bool with_context);

  Engine& engine_;
  const std::string system_;
  std::vector<Token> context_;
  std::shared_ptr<KvSegment> segment_;  // with room for what prompts have in common
  std::optional<ContextPrefill> prefill_;

  friend class EngineTurns;
};

}  // namespace celslm
