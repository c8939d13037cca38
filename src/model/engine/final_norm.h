// The last step before the output head: what logits, and embeddings of texts, are made of.
#pragma once

#include <vector>

#include "core/result.h"
#include "model/engine/batch.h"
#include "model/engine/model.h"

namespace celslm {

// The rows after the final norm, [n_tokens][n_embd]; hidden: what left the last layer. No graph and no engine needed: it is
// a product by row. kInvalid for hidden states of another width.
Result<std::vector<float>> final_norm(const Model& model, const Hidden& hidden);

}  // namespace celslm
