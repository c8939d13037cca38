#include "serve/route/forwarder.h"

#include <fmt/format.h>

#include <atomic>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "core/mutex.h"
#include "net/access/caller.h"
#include "net/access/client_header.h"
#include "net/http_stream.h"
#include "serve/openai/openai.h"
#include "serve/route/event_stream.h"
#include "serve/route/passed_events.h"
#include "serve/wire/errors.h"
#include "serve/wire/protocol.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr auto kForwardStall = 15s;  // an edge that computes writes a comment every 10 s
constexpr auto kConnectPatience = 1s;
constexpr std::size_t kMaxAnswerBytes = 16U << 20;  // of a complete one, which is parsed in memory, one on each thread

// The stream to the client: events wait until its body can take them. Thread-safe.
class PassedStream {
 public:
  explicit PassedStream(std::stop_source stop) : stop_(std::move(stop)) {}

  void attach(std::shared_ptr<BodyWriter> body) CELSLM_EXCLUDES(mutex_) {
    body->on_change([stop = stop_, weak = std::weak_ptr(body)]() mutable {
      const auto to = weak.lock();
      if (!to || to->gone()) stop.request_stop();
    });
    const MutexLock lock(mutex_);
    body_ = std::move(body);
    for (std::string& event : std::exchange(waiting_, {})) body_->push(std::move(event));
    if (ended_) body_->end();
  }
  // False: nobody can read it any more.
  bool push(std::string event) CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    if (body_) return body_->push(std::move(event));
    waiting_bytes_ += event.size();
    waiting_.push_back(std::move(event));
    return waiting_bytes_ <= kMaxUnsentBytes;
  }
  void end() CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    ended_ = true;
    if (body_) body_->end();
  }

 private:
  std::stop_source stop_;
  Mutex mutex_;
  std::shared_ptr<BodyWriter> body_ CELSLM_GUARDED_BY(mutex_);
  std::vector<std::string> waiting_ CELSLM_GUARDED_BY(mutex_);
  std::size_t waiting_bytes_ CELSLM_GUARDED_BY(mutex_) = 0;
  bool ended_ CELSLM_GUARDED_BY(mutex_) = false;
};

// One request on its way; run() on a thread of the forwarder's.
class Forwarding {
 public:
  Forwarding(ForwardJob job, std::shared_ptr<HttpReply> reply, Log log)
      : job_(std::move(job)), reply_(std::move(reply)), log_(std::move(log)) {
    job_.began();
    reply_->on_gone([stop = stop_]() mutable { stop.request_stop(); });
  }

  void run(const std::stop_token& stop_all) {
    const std::stop_callback stop(stop_all, [this] { stop_.request_stop(); });
    Status done = [this] {
      const std::stop_callback lost(job_.lost, [this] { give_up_lost(); });
      return job_.streamed ? stream() : complete();
    }();
    if (!done && phase_ == Phase::kLost) done = fail(ErrorKind::kUnavailable, "{} is not heard of any more", job_.node);
    job_.ended(done ? ForwardEnd::kAnswered : end_of(done.error()), moved_, tokens_);
    if (done) return;
    if (phase_ == Phase::kBegun) return end_early(done.error());
    if (stop_all.stop_requested()) return reply_->send(error_response(ApiError::kUnavailable, "this edge stops"));
    if (stop_.stop_requested() && phase_ != Phase::kLost)
      return reply_->send(error_response(ApiError::kCancelled, "the client disconnected"));
    answer_otherwise(done.error());
  }
  void refuse(const Error& why) {
    job_.ended(ForwardEnd::kNotAsked, {}, 0);
    reply_->send(job_.otherwise(why));
  }

 private:
  enum class Phase : std::uint8_t {
    kWaiting,
    kBegun,  // the client has got something
    kLost,   // the node is not heard of any more, and the client has got nothing
  };

  // On any thread.
  void give_up_lost() {
    Phase expected = Phase::kWaiting;
    if (phase_.compare_exchange_strong(expected, Phase::kLost)) stop_.request_stop();
  }
  void answer_otherwise(const Error& why) {
    log_->debug("{} did not answer a forwarded request: {}", job_.node, why.message);
    reply_->send(job_.otherwise(why));
  }
  ForwardEnd end_of(const Error& error) const {
    if (stop_.stop_requested() && phase_ != Phase::kLost) return ForwardEnd::kCancelled;
    const bool failed = error.kind == ErrorKind::kUnavailable || error.kind == ErrorKind::kOverloaded;
    return failed ? ForwardEnd::kFailed : ForwardEnd::kRefused;
  }
  HttpCall call() {
    std::map<std::string, std::string> headers = {{kForwardedHeader, "1"}, {kClientHeader, job_.from}};
    if (!job_.tenant.empty()) headers[kTenantHeader] = job_.tenant;
    return {.method = "POST",
            .path = job_.path,
            .headers = std::move(headers),
            .body = job_.body,
            .max_body_bytes = job_.streamed ? HttpCall().max_body_bytes : kMaxAnswerBytes,
            .timeout = job_.streamed ? 0ms : job_.timeout,
            .connect_timeout = kConnectPatience,
            .stall_bytes_per_s = job_.streamed ? 1U : 0U,
            .stall_timeout = kForwardStall,
            .watch =
                [this](const HttpTraffic& so_far) {
                  moved_ = so_far;
                  return true;
                },
            .stop = stop_.get_token()};
  }

  Status complete() {
    CELSLM_TRY(const HttpAnswer answer, job_.client->call(call()));
    if (answer.status != 200) return std::unexpected(error_of_answer(answer.status, answer.body));
    CELSLM_TRY(const nlohmann::json body, answer_with_notes(as_text(answer.body), job_.notes));
    tokens_ = answer_tokens(body);
    reply_->send(json_response(body));
    return {};
  }

  Status stream() {
    HttpCall wanted = call();
    wanted.sink = [this](ByteView piece) { return take(as_text(piece)); };
    // Comments keep a stream from being silent; they must not keep its client waiting for ever.
    wanted.watch = [this, until = steady_clock::now() + job_.timeout](const HttpTraffic& so_far) {
      moved_ = so_far;
      if (has_begun() || job_.timeout == 0ms || steady_clock::now() < until) return true;
      return give_up({ErrorKind::kUnavailable, fmt::format("no token came within {} ms", job_.timeout.count())});
    };
    const auto answer = job_.client->call(wanted);
    if (failed_) return std::unexpected(*failed_);
    if (!answer && !ended_) return std::unexpected(answer.error());
    if (answer && answer->status != 200) return std::unexpected(error_of_answer(answer->status, answer->body));
    if (!ended_) return fail(ErrorKind::kUnavailable, "its stream ended too early");
    return {};
  }

  bool take(std::string_view piece) {
    auto events = splitter_.add(piece);
    if (!events) return give_up(events.error());
    for (std::string& event : *events) {
      const EventKind kind = has_begun() ? EventKind::kText : kind_of_event(event);
      if (kind == EventKind::kError) return give_up({ErrorKind::kUnavailable, "it failed before the first token"});
      const bool last = is_last_event(event);
      if (kind == EventKind::kText && !last) ++tokens_;
      if (!passed_->push(with_notes(std::move(event), job_.notes)))
        return give_up({ErrorKind::kCancelled, "the client does not read"});
      if (kind == EventKind::kText && !has_begun() && !begin()) return give_up({ErrorKind::kUnavailable, "it was lost"});
      if (last) {
        ended_ = true;
        passed_->end();
      }
    }
    return true;
  }
  bool has_begun() const { return phase_ == Phase::kBegun; }
  // False if the node has been lost.
  bool begin() {
    Phase expected = Phase::kWaiting;
    if (!phase_.compare_exchange_strong(expected, Phase::kBegun)) return false;
    reply_->send(event_stream([passed = passed_](std::shared_ptr<BodyWriter> body) { passed->attach(std::move(body)); }));
    return true;
  }
  bool give_up(Error why) {
    failed_ = std::move(why);
    return false;
  }
  void end_early(const Error& why) {
    passed_->push(CompletionWriter::error_event(
        {ErrorKind::kUnavailable, fmt::format("the node that this request was forwarded to failed: {}", why.message)}));
    passed_->push(CompletionWriter::done_event());
    passed_->end();
  }

  const ForwardJob job_;
  const std::shared_ptr<HttpReply> reply_;
  const Log log_;
  std::stop_source stop_;
  const std::shared_ptr<PassedStream> passed_ = std::make_shared<PassedStream>(stop_);
  EventSplitter splitter_;
  HttpTraffic moved_;
  std::int64_t tokens_ = 0;
  std::atomic<Phase> phase_ = Phase::kWaiting;
  bool ended_ = false;  // the node's answer is complete
  std::optional<Error> failed_;
};

}  // namespace

const char* to_string(ForwardEnd end) {
  switch (end) {
    case ForwardEnd::kAnswered: return "answered";
    case ForwardEnd::kRefused: return "refused";
    case ForwardEnd::kFailed: return "failed";
    case ForwardEnd::kCancelled: return "cancelled";
    case ForwardEnd::kNotAsked: return "not asked";
  }
  return "?";
}

bool was_forwarded(const HttpRequest& request) {
  return request.headers.contains(kForwardedHeader);
}

HttpResponse Forwarder::forward(ForwardJob job) {
  const auto shared = std::make_shared<ForwardJob>(std::move(job));
  return {.deferred = [this, shared](std::shared_ptr<HttpReply> reply) {
    const auto forwarding = std::make_shared<Forwarding>(std::move(*shared), std::move(reply), log_);
    if (pool_.try_run([forwarding, stop = stop_.get_token()] { forwarding->run(stop); })) return;
    forwarding->refuse({ErrorKind::kOverloaded, "this edge forwards too many requests already"});
  }};
}

void Forwarder::finish() {
  stop_.request_stop();
  pool_.finish();
}

}  // namespace celslm
