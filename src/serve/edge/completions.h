// What happens to one request for text at an edge, from its parsed form to the last byte of its answer.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "core/clock.h"
#include "core/result.h"
#include "net/http_types.h"
#include "serve/batch/batch_loop.h"
#include "serve/edge/context_directory.h"
#include "serve/edge/edge_metrics.h"
#include "serve/edge/request_preparation.h"
#include "serve/openai/openai.h"

namespace celslm {

// What requests are answered with; all of it outlives the Completions and every stream that it returned.
struct CompletionParts {
  std::string model_name;
  RequestPreparation& preparation;
  BatchLoop& loop;
  ContextDirectory& directory;
  EdgeMetrics& metrics;
  const Clock& clock;
};

// The answer to a request that was refused, or whose generation failed.
HttpResponse completion_refusal(const Error& error);
HttpResponse model_not_found(const std::string& wanted, const std::string& served);

// Thread-safe: each request runs on the server's thread that calls answer(), the engine on the loop's.
class Completions {
 public:
  explicit Completions(CompletionParts parts) : parts_(std::move(parts)) {}

  // request: as parsed, or why it could not be. The complete answer, after it has been generated, or a stream that writes it
  // while it is. A client that has gone cancels the generation.
  HttpResponse answer(Result<CompletionRequest> request, const HttpRequest& http);

 private:
  using Disconnected = std::function<bool()>;  // whether the client has; may be empty
  HttpResponse complete(const PreparedRequest& prepared, Generation& generation, const Disconnected& disconnected);
  bool stream(const PreparedRequest& prepared, Generation& generation, const Disconnected& disconnected,
              const BodySink& send);
  bool send_end(const PreparedRequest& prepared, const Generation& generation, const GenerationPiece& last,
                const CompletionWriter& out, const BodySink& send);
  CompletionWriter writer(const CompletionRequest& request, const std::string& unique) const;
  std::int64_t unix_seconds() const;
  std::string next_id();
  nlohmann::json extension(const Generation& generation, const GenerationPiece& last) const;

  const CompletionParts parts_;
  std::atomic<std::uint64_t> n_answers_{0};
};

}  // namespace celslm
