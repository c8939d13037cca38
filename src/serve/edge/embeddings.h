// What happens to one request for embeddings at an edge.
#pragma once

#include "serve/edge/completions.h"
#include "serve/openai/embeddings.h"

namespace celslm {

// An embedding is the mean of a text's last hidden states after the final norm, of length 1, as llama-server's with
// `--pooling mean`. Thread-safe, as Completions.
class Embeddings {
 public:
  explicit Embeddings(CompletionParts parts) : parts_(std::move(parts)) {}

  // request: as parsed, or why it could not be.
  HttpResponse answer(Result<EmbeddingRequest> request, const HttpRequest& http);

 private:
  const CompletionParts parts_;
};

}  // namespace celslm
