// One answer's grammar at work: which tokens may come next.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/clock.h"
#include "core/result.h"
#include "model/constraint/token_mask.h"
#include "model/grammar/grammar_spec.h"

namespace celslm {

// What became of a token, or a text, that was offered.
struct Verdict {
  bool accepted = false;  // it belongs to the answer now
  TokenMask allowed;      // of a token that was not: the tokens that would be; none: nothing continues the grammar
};

// Questions are answered elsewhere and later, so that a grammar which thinks for long keeps nobody else waiting: ask once,
// then look for the answer; one question at a time. Used by one thread at a time. Destruction ends whatever runs for it.
class Constraint {
 public:
  virtual ~Constraint() = default;
  // Whether this token may come next; if so, it does.
  virtual void offer(Token token) = 0;
  // Whether the grammar's text may begin with this, and if so, it does. For grammars that begin within an answer, at most
  // until the first text is accepted.
  virtual void begin(const std::string& text) = 0;
  // The answer, once, when it is there. After an error the constraint is of no more use: kInvalid for a grammar that takes
  // too much time or memory, kUnavailable when what runs it has ended.
  virtual std::optional<Result<Verdict>> take_answer() = 0;
  // Returns when the answer is there, but not later than after `time`.
  virtual void wait(Duration time) = 0;
};

// Makes them. Thread-safe.
class ConstraintMaker {
 public:
  virtual ~ConstraintMaker() = default;
  // Blocks while the grammar is compiled, for a few seconds at most. answered: called when an answer comes, from any thread;
  // not after the constraint has been destroyed. kInvalid with the reason for a grammar that cannot be used; kOverloaded
  // where too many are in use.
  virtual Result<std::unique_ptr<Constraint>> make(const GrammarSpec& grammar, std::function<void()> answered) = 0;
};

}  // namespace celslm
