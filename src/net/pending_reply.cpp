#include "net/pending_reply.h"

#include <utility>

namespace celslm {

std::shared_ptr<HttpReply> PendingReply::sender(const std::shared_ptr<PendingReply>& reply, HttpResponse otherwise) {
  const auto last = std::make_shared<HttpResponse>(std::move(otherwise));
  return {reply.get(), [reply, last](HttpReply* to) { to->send(std::move(*last)); }};
}

void PendingReply::send(HttpResponse response) {
  {
    const MutexLock lock(mutex_);
    if (std::exchange(sent_, true)) return;
    response_ = std::move(response);
  }
  left_->release();
  wake_();
}

bool PendingReply::gone() const {
  const MutexLock lock(mutex_);
  return gone_;
}

void PendingReply::on_gone(std::function<void()> left) {
  bool due = false;
  {
    const MutexLock lock(mutex_);
    if (sent_) return;
    left_->set(std::move(left));
    due = gone_;
  }
  if (due) left_->notify_and_release();
}

std::optional<HttpResponse> PendingReply::take() {
  const MutexLock lock(mutex_);
  return std::exchange(response_, std::nullopt);
}

void PendingReply::drop() {
  {
    const MutexLock lock(mutex_);
    if (std::exchange(gone_, true) || sent_) return;
  }
  left_->notify_and_release();
}

}  // namespace celslm
