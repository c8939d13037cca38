// What a study needs of a model: turns of a user, many at once, answered in steps. The engine implements it in
// study_engine.h; tests script it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "model/text/sampler.h"

namespace celslm {

// A model's distribution at each token of an answer, and what the answer was.
struct Teacher {
  std::vector<Token> tokens;                   // of the answer, and the token that ends the turn
  std::vector<std::vector<TokenLogprob>> top;  // for each of them the most probable tokens there, best first
};
inline constexpr int kTeacherTop = 32;

struct Continuation {
  float temperature = 0.0F;  // 0: greedy
  std::uint32_t seed = 0;
  bool wide = false;     // also improbable tokens, which are left out otherwise
  bool teacher = false;  // whether the distributions are wanted
};

// A user's turn, and in how many ways it is answered.
struct Turn {
  std::string user;                         // empty: none yet; the model writes what a user would
  std::vector<Continuation> continuations;  // not empty
  int limit = 0;                            // tokens of a reply
};

struct Reply {
  std::string text;
  bool ended = false;  // by the model, within the limit
  Teacher teacher;     // empty unless wanted
};

// Turns under way. The model that started it outlives it.
class TurnBatch {
 public:
  virtual ~TurnBatch() = default;
  // One pass of the model, at most; true once all replies are there.
  virtual Result<bool> step() = 0;
  // By turn, then by continuation. Once, after step() returned true.
  virtual std::vector<std::vector<Reply>> take() = 0;
  // Prompt tokens read and tokens decoded so far, those of the context not among them.
  virtual std::int64_t tokens() const = 0;
};

// A model behind one context. Used by one thread.
class StudyModel {
 public:
  virtual ~StudyModel() = default;
  virtual int context_tokens() const = 0;
  // What the turn costs at most, in tokens. kInvalid where the chat template refuses it.
  virtual Result<std::int64_t> most_tokens(const Turn& turn, bool with_context) const = 0;
  // with_context: behind the context; otherwise without any. turns: not empty. One batch at a time. The context is computed
  // in the first steps that need it.
  virtual Result<std::unique_ptr<TurnBatch>> start(std::span<const Turn> turns, bool with_context) = 0;
};

}  // namespace celslm
