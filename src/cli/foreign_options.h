// What the options of an edge mean for a model that libllama runs (docs/foreign-models.md).
#pragma once

#include "cli/edge_options.h"
#include "model/engine/engine.h"

namespace celslm {

// kInvalid, naming the option, for one that needs layers of our own.
Status check_foreign(const EdgeCommand& command);

// The memory that libllama takes for KV when it starts, from the budgets: those that were not given on the command line
// become smaller first, since all of it is taken. Bounds requests, contexts and prefixes by the sequences that there are.
struct ForeignMemory {
  ForeignLimits limits;
  std::uint64_t kv_bytes = 0;  // that limits.n_tokens take
};
ForeignMemory foreign_memory(const EdgeCommand& command, const Model& model, EdgeOptions& options);

}  // namespace celslm
