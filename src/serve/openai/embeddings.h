// POST /v1/embeddings as data: the request parsed and checked, the answer built.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "serve/openai/openai.h"
#include "serve/openai/prompts.h"

namespace celslm {

struct EmbeddingRequest {
  std::string model;           // empty: the one this edge hosts
  std::vector<Prompt> inputs;  // at least one, at most kMaxTexts
  bool base64 = false;         // encoding_format: of little-endian f32, instead of numbers
};

// kInvalid with the field's name and what was expected.
Result<EmbeddingRequest> parse_embedding_request(std::string_view body);

// embeddings: one for each input, in order.
nlohmann::json embedding_response(const EmbeddingRequest& request, std::string_view model,
                                  std::span<const std::vector<float>> embeddings, const Usage& usage);

}  // namespace celslm
