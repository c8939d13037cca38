// The "x_celslm" object of a response: where the context's KV came from, and what each phase took. docs/http-protocol.md
// describes its fields.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "serve/batch/generation.h"

namespace celslm {

// last: the answer's last piece. engine: what computed it. cloud_trouble: why the cloud could not be reached; shown without
// a context.
nlohmann::json response_extension(const GenerationRequest& request, const GenerationPiece& last, const std::string& engine,
                                  const std::string& cloud_trouble);

// One of its "layers", for a layer that was loaded.
nlohmann::json layer_json(const LayerOrigin& origin);

}  // namespace celslm
