// A context's KV with fewer rows than tokens, fitted to what conversations about it read.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "align/condense/match.h"
#include "align/condense/study_queries.h"
#include "align/map/kv_planes.h"
#include "model/kv/condensed_kv.h"

namespace celslm {

struct CondenseOptions {
  int max_queries = 4096;  // per KV head and layer, drawn at random from what there are
  // Called after each layer; may be empty.
  std::function<void(int done, int of)> progress;
};

// One result for each of `variants`, which share the work of reading: choice.n_rows rows in every layer and KV head, chosen
// and fitted for each of them alone. conversations: what follows the context (prompts and their answers), none empty, at
// least one; they read the full KV. kInvalid where the numbers of rows do not fit the context; errors of the engine.
Result<std::vector<CondensedKv>> condense(Engine& engine, const ExactKv& context,
                                          std::span<const std::vector<Token>> conversations,
                                          std::span<const MatchOptions> variants, const CondenseOptions& options = {});

// The same for one variant, layer by layer: the queries of a layer come from conversations that read the condensed KV of all
// layers below, as a user's will. Takes a second pass of the conversations through the model.
Result<CondensedKv> condense_on_policy(Engine& engine, const ExactKv& context,
                                       std::span<const std::vector<Token>> conversations, const MatchOptions& variant,
                                       const CondenseOptions& options = {});

}  // namespace celslm
