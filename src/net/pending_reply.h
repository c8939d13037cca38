// A response that its producer owes and its connection waits for: both ends of a deferred response.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "core/mutex.h"
#include "net/http_stream.h"
#include "net/producer_call.h"

namespace celslm {

// Thread-safe.
class PendingReply final : public HttpReply {
 public:
  // wake: there is a response to take; called by the producer, without locks. run: for on_gone().
  PendingReply(std::function<void()> wake, RunSoon run)
      : wake_(std::move(wake)), left_(std::make_shared<ProducerCall>(std::move(run))) {}

  // The producers' reference to `reply`: the last of its copies to go sends `otherwise` if nothing was sent.
  static std::shared_ptr<HttpReply> sender(const std::shared_ptr<PendingReply>& reply, HttpResponse otherwise);

  void send(HttpResponse response) override;
  bool gone() const override;
  void on_gone(std::function<void()> left) override;

  // The connection's side. take(): the response, once.
  std::optional<HttpResponse> take();
  void drop();  // the client has gone; idempotent

 private:
  const std::function<void()> wake_;
  const std::shared_ptr<ProducerCall> left_;
  mutable Mutex mutex_;
  std::optional<HttpResponse> response_ CELSLM_GUARDED_BY(mutex_);
  bool sent_ CELSLM_GUARDED_BY(mutex_) = false;
  bool gone_ CELSLM_GUARDED_BY(mutex_) = false;
};

}  // namespace celslm
