// What a producer has pushed and its connection has not sent yet: both ends of a pushed body.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "core/mutex.h"
#include "net/http_stream.h"
#include "net/producer_call.h"

namespace celslm {

// Thread-safe. The consumer, a connection, calls take(), sent() and drop() from one thread at a time.
class BodyQueue final : public BodyWriter {
 public:
  // wake: there is something to take; called by producers, without locks. run: for on_change().
  BodyQueue(std::function<void()> wake, RunSoon run)
      : wake_(std::move(wake)), changed_(std::make_shared<ProducerCall>(std::move(run))) {}

  // The producers' reference to `queue`: the last of its copies to go aborts a body that has not ended.
  static std::shared_ptr<BodyWriter> writer(const std::shared_ptr<BodyQueue>& queue);

  bool push(std::string piece) override;
  std::size_t room() const override;
  void end() override { finish(End::kComplete); }
  void abort() override { finish(End::kAborted); }
  bool gone() const override;
  void on_change(std::function<void()> changed) override;

  enum class End { kOpen, kComplete, kAborted };
  struct Taken {
    std::deque<std::string> pieces;
    End end = End::kOpen;  // behind these pieces
  };
  // What waits. Its bytes count as unsent until sent() reports them.
  Taken take();
  void sent(std::size_t bytes);
  // Nothing that is pushed can arrive any more. Idempotent.
  void drop();

 private:
  void finish(End end);

  const std::function<void()> wake_;
  const std::shared_ptr<ProducerCall> changed_;
  mutable Mutex mutex_;
  std::deque<std::string> pieces_ CELSLM_GUARDED_BY(mutex_);
  std::size_t unsent_ CELSLM_GUARDED_BY(mutex_) = 0;
  mutable bool starved_ CELSLM_GUARDED_BY(mutex_) = false;  // a producer has seen that there is no room
  bool gone_ CELSLM_GUARDED_BY(mutex_) = false;
  End end_ CELSLM_GUARDED_BY(mutex_) = End::kOpen;
};

}  // namespace celslm
