// What happens to one request for text at an edge, from its parsed form to the last byte of its answer.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

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
  // while it is. A client that has gone cancels the generation: for a complete answer one that has closed its sending side
  // (a half-close looks the same, and nothing can be written to find out); for a stream one that what is written cannot
  // reach.
  HttpResponse answer(Result<CompletionRequest> request, const HttpRequest& http);

 private:
  // A request with all its texts: n for each prompt.
  struct Running {
    CompletionRequest request;
    PreparedRequest prepared;         // its first prompt
    std::vector<std::string> echoes;  // one for each prompt
    std::vector<std::shared_ptr<Generation>> texts;

    const std::string& echo(int choice) const { return echoes[static_cast<std::size_t>(choice / request.n)]; }
    void cancel() const;
  };
  struct Text;
  std::variant<Running, HttpResponse> start(CompletionRequest request, const HttpRequest& http);
  HttpResponse complete(const Running& running);
  bool stream(const Running& running, const HttpRequest& http, const BodySink& send);
  bool send_end(const Running& running, const std::vector<Text>& texts, int last, const CompletionWriter& out,
                const BodySink& send);
  CompletionWriter writer(const CompletionRequest& request, const std::string& unique) const;
  std::int64_t unix_seconds() const;
  std::string next_id();
  nlohmann::json extension(const Generation& generation, const GenerationPiece& last) const;

  const CompletionParts parts_;
  std::atomic<std::uint64_t> n_answers_{0};
};

}  // namespace celslm
