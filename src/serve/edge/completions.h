// What happens to one request for text at an edge, from its parsed form to the last byte of its answer.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>
#include <vector>

#include "core/clock.h"
#include "core/result.h"
#include "core/worker_pool.h"
#include "net/access/key_meter.h"
#include "net/http_types.h"
#include "serve/batch/batch_loop.h"
#include "serve/edge/context_directory.h"
#include "serve/edge/edge_metrics.h"
#include "serve/edge/request_preparation.h"
#include "serve/openai/openai.h"
#include "serve/route/event_stream.h"

namespace celslm {

// What requests are answered with; all of it outlives the Completions and every answer that it began.
struct CompletionParts {
  std::string model_name;
  std::string engine;  // that computes the answers: Model::engine_name()
  RequestPreparation& preparation;
  BatchLoop& loop;
  ContextDirectory& directory;
  EdgeMetrics& metrics;
  const Clock& clock;
  WorkerPool& writers;  // with one thread, on which all answers are written
};

// What is known of a request for text when its generations have begun.
struct BegunCompletion {
  CompletionRequest request;
  PreparedRequest prepared;                        // its first prompt
  std::vector<std::string> echoes;                 // one for each prompt
  std::vector<std::shared_ptr<Generation>> texts;  // n for each prompt
  std::shared_ptr<KeyUse> key_use;                 // lasts until the answer's end; null: without a key
  std::string unique;                              // of its id
  std::int64_t created_unix_s = 0;
  nlohmann::json notes = nlohmann::json::object();  // added to the answer's "x_celslm"
};

// The answer to a request that was refused, or whose generation failed.
HttpResponse completion_refusal(const Error& error);
// GenerationRequest::pay of a key's request: the tokens of the prompt that were not there already, and the answer's. Empty
// without a key.
std::function<void(const Usage&)> payment(const KeyUse* use);
HttpResponse model_not_found(const std::string& wanted, const std::string& served);

// Thread-safe. No thread waits for an answer: a request's texts are written as the loop generates them.
class Completions {
 public:
  explicit Completions(CompletionParts parts) : parts_(std::move(parts)) {}

  // request: as parsed, or why it could not be. The complete answer, deferred until it has been generated, or a stream to
  // which it is pushed while it is. A client that has gone cancels the generation at any moment: for a complete answer one
  // that has closed its sending side, for a stream one that what is written cannot reach.
  // notes: an object that is added to the answer's "x_celslm".
  HttpResponse answer(Result<CompletionRequest> request, const HttpRequest& http, const nlohmann::json& notes = {});

  // The same in two steps, for whoever looks at the generations in between. `adjust` may change what is submitted.
  using Adjust = std::function<void(std::vector<GenerationRequest>&)>;
  std::variant<BegunCompletion, HttpResponse> begin(CompletionRequest request, const HttpRequest& http,
                                                    const Adjust& adjust = {});
  HttpResponse write(BegunCompletion begun);
  const CompletionParts& parts() const { return parts_; }

 private:
  std::int64_t unix_seconds() const;

  const CompletionParts parts_;
  std::atomic<std::uint64_t> n_answers_{0};
};

}  // namespace celslm
