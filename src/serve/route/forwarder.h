// Sends requests to other nodes and passes their answers on.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <stop_token>
#include <string>

#include "core/log.h"
#include "core/worker_pool.h"
#include "net/http_client.h"
#include "net/http_types.h"

namespace celslm {

// A forwarded request has this header: whoever gets it answers it and sends it to nobody else.
inline constexpr const char* kForwardedHeader = "x-celslm-forwarded";

// Forwarded requests under way at the same time: each has a thread and a connection.
inline constexpr int kForwarderThreads = 16;

bool was_forwarded(const HttpRequest& request);

enum class ForwardEnd {
  kAnswered,   // the node's answer was complete
  kRefused,    // the node would not answer this request
  kFailed,     // the node could not be reached, failed, or was full
  kCancelled,  // its client has gone, or this edge stops
  kNotAsked,   // this edge forwards too many already
};
const char* to_string(ForwardEnd end);

struct ForwardJob {
  std::shared_ptr<HttpClient> client;
  std::string node;    // for the log
  std::string path;    // "/v1/chat/completions"
  std::string body;    // that it gets
  std::string from;    // whom it is for, among the clients of this edge (kClientHeader)
  std::string tenant;  // whose contexts it is about; empty: the default tenant's
  bool streamed = false;
  std::chrono::milliseconds timeout{0};  // for a complete answer, or a stream's first token; 0: none
  std::stop_token lost;                  // requested when the node is not heard of any more
  nlohmann::json notes;                  // added to the answer's "x_celslm"
  // The answer if the node gives none: called on a forwarding thread, before anything has reached the client.
  std::function<HttpResponse(const Error& why)> otherwise;
  std::function<void()> began;  // called once, and then `ended` once
  // tokens: of the answer's text, as far as they are known: what a complete one reports, or a stream's events.
  std::function<void(ForwardEnd end, const HttpTraffic& moved, std::int64_t tokens)> ended;
};

// Thread-safe. A node that refuses, fails, is lost or does not answer in time before its first token (a complete answer:
// before all of it) costs time and nothing else: the request is answered here. After the first token a stream ends with an
// error event where the node fails; whether it is lost its bytes tell.
class Forwarder {
 public:
  explicit Forwarder(Log log) : log_(std::move(log)), pool_(0) {}
  ~Forwarder() { finish(); }
  Forwarder(const Forwarder&) = delete;
  Forwarder& operator=(const Forwarder&) = delete;

  Status start() { return pool_.start(kForwarderThreads); }
  // The node's answer, deferred; job.otherwise() at once if all threads are busy.
  HttpResponse forward(ForwardJob job);
  // Cancels what is under way and waits for its end. Idempotent.
  void finish();

 private:
  const Log log_;
  std::stop_source stop_;
  WorkerPool pool_;
};

}  // namespace celslm
