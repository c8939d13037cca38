// The gate of a tuning: what was measured of it, and whether that is enough to serve it. `./dev bench quality --gate`
// measures; statistics stay there, and only the figures come here (docs/tuning-format.md).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "align/tuning/tuning.h"
#include "core/hash.h"
#include "core/result.h"

namespace celslm {

// A gate over fewer documents is no gate: intervals by bootstrap mean nothing then.
inline constexpr int kLeastGateDocuments = 10;
inline constexpr std::size_t kMaxGateSets = 256;

// A mean with the model's own KV and with the tuned one, and the 95 % interval of the change, over documents.
struct Change {
  double own = 0.0;
  double tuned = 0.0;
  double low = 0.0;
  double high = 0.0;
};

// Over questions that the training did not see, or over plain text.
struct TuningGate {
  struct Set {
    std::string name;
    int questions = 0;
    Change f1;
    Change contains;
  };
  Hash256 tuning;  // unjudged_id() of what was measured
  Hash256 model;
  int documents = 0;
  int questions = 0;
  Change f1;                // of all questions
  Change contains;          // reported only
  std::vector<Set> sets;    // all there are
  int plain_documents = 0;  // whose second half was read behind the KV of the first
  Change plain_log_p;       // nats a token of it
};

// Why it may not be served: F1 not better, a set significantly worse in F1, plain text significantly less likely, or too few
// documents. Empty if it passes.
std::string refusal(const TuningGate& gate);

// kInvalid, naming the field, for what is not of the documented form, for figures that contradict each other, and for a
// "state" that the figures do not give.
Result<TuningGate> parse_gate(std::string_view json);

// Several lines for people.
std::string describe(const TuningGate& gate);

// Puts a gate into a tuning, which is not signed any more. kInvalid as parse_gate(); kMismatch for a gate of another tuning.
Status judge_tuning(Tuning& tuning, std::string_view gate);

// The tuning's own gate. kInvalid where it was not judged; kMismatch where the gate is about another.
Result<TuningGate> gate_of(const Tuning& tuning);

// A tuning that is signed and passed its gate. Errors of read_tuning(); kMismatch, with the file's name and what to do, for
// others.
Result<Tuning> read_servable_tuning(const std::filesystem::path& path);

}  // namespace celslm
