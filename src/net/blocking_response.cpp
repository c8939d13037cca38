#include "net/blocking_response.h"

#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "core/mutex.h"
#include "net/body_queue.h"
#include "net/pending_reply.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 20ms;  // how often a waiting call looks after its client

// Wakes one waiting thread, and runs on it what producers wanted to be called for.
class Waiter {
 public:
  void wake() {
    const MutexLock lock(mutex_);
    woken_ = true;
    changed_.notify_all();
  }
  void run(std::function<void()> call) {
    const MutexLock lock(mutex_);
    calls_.push_back(std::move(call));
    changed_.notify_all();
  }
  void wait() {
    std::vector<std::function<void()>> calls;
    {
      const MutexLock lock(mutex_);
      changed_.wait_for(mutex_, kPatience, [&]() CELSLM_REQUIRES(mutex_) { return woken_ || !calls_.empty(); });
      woken_ = false;
      calls = std::exchange(calls_, {});
    }
    for (const auto& call : calls) call();
  }

 private:
  Mutex mutex_;
  ConditionVariable changed_;
  bool woken_ CELSLM_GUARDED_BY(mutex_) = false;
  std::vector<std::function<void()>> calls_ CELSLM_GUARDED_BY(mutex_);
};

template <typename End>
std::shared_ptr<End> make_end(const std::shared_ptr<Waiter>& waiter) {
  return std::make_shared<End>([waiter] { waiter->wake(); }, [waiter](auto call) { waiter->run(std::move(call)); });
}

HttpResponse wait_for(const HttpResponse& deferred, const HttpRequest& request) {
  const auto waiter = std::make_shared<Waiter>();
  const auto reply = make_end<PendingReply>(waiter);
  deferred.deferred(PendingReply::sender(reply, {.status = 500}));
  while (true) {
    if (auto response = reply->take()) return *std::move(response);
    if (request.disconnected && request.disconnected()) reply->drop();
    waiter->wait();
  }
}

// Whether the body was complete and all of it taken.
bool run(const HttpResponse& response, const std::function<bool()>& unreachable, const BodySink& sink) {
  const auto waiter = std::make_shared<Waiter>();
  const auto body = make_end<BodyQueue>(waiter);
  response.pushed(BodyQueue::writer(body));
  bool taking = true;
  while (true) {
    const BodyQueue::Taken taken = body->take();
    for (const std::string& piece : taken.pieces) {
      taking = taking && sink(piece);
      body->sent(piece.size());
    }
    if (taken.end != BodyQueue::End::kOpen) return taking && taken.end == BodyQueue::End::kComplete;
    taking = taking && !(unreachable && unreachable());
    if (!taking) body->drop();
    waiter->wait();
    if (!taking) return false;
  }
}

}  // namespace

HttpResponse blocking(HttpResponse response, const HttpRequest& request) {
  while (response.deferred) response = wait_for(response, request);
  if (!response.pushed) return response;
  HttpResponse out = std::move(response);
  const auto source = std::make_shared<HttpResponse>(HttpResponse{.pushed = std::exchange(out.pushed, {})});
  out.stream = [source, unreachable = request.unreachable](const BodySink& sink) { return run(*source, unreachable, sink); };
  return out;
}

}  // namespace celslm
