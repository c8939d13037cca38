// What happens to a request to /v1/responses at an edge: a chat whose answer is written another way.
#pragma once

#include <atomic>

#include "core/result.h"
#include "net/http_types.h"
#include "serve/edge/completions.h"
#include "serve/openai/responses.h"

namespace celslm {

// Thread-safe, as Completions.
class Responses {
 public:
  explicit Responses(CompletionParts parts) : parts_(std::move(parts)) {}

  // request: as parsed, or why it could not be.
  // notes: an object that is added to the answer's "x_celslm".
  HttpResponse answer(Result<ResponsesRequest> request, const HttpRequest& http, nlohmann::json notes = {});

 private:
  const CompletionParts parts_;
  std::atomic<std::uint64_t> n_answers_{0};
};

}  // namespace celslm
