#include "net/body_queue.h"

#include <utility>

namespace celslm {

std::shared_ptr<BodyWriter> BodyQueue::writer(const std::shared_ptr<BodyQueue>& queue) {
  return {queue.get(), [queue](BodyWriter* body) { body->abort(); }};
}

bool BodyQueue::push(std::string piece) {
  bool first = false;
  bool too_slow = false;
  {
    const MutexLock lock(mutex_);
    if (gone_ || end_ != End::kOpen) return false;
    too_slow = unsent_ > kMaxUnsentBytes;
    if (!too_slow && !piece.empty()) {
      first = pieces_.empty();
      unsent_ += piece.size();
      pieces_.push_back(std::move(piece));
    }
  }
  if (too_slow) abort();
  if (first) wake_();
  return !too_slow;
}

std::size_t BodyQueue::room() const {
  const MutexLock lock(mutex_);
  if (gone_ || unsent_ >= kBodyWindowBytes) {
    starved_ = true;
    return 0;
  }
  return kBodyWindowBytes - unsent_;
}

bool BodyQueue::gone() const {
  const MutexLock lock(mutex_);
  return gone_;
}

void BodyQueue::on_change(std::function<void()> changed) {
  bool due = false;
  {
    const MutexLock lock(mutex_);
    if (end_ != End::kOpen) return;
    changed_->set(std::move(changed));
    due = gone_;
  }
  if (due) changed_->notify_and_release();
}

void BodyQueue::finish(End end) {
  {
    const MutexLock lock(mutex_);
    if (end_ != End::kOpen) return;
    end_ = end;
  }
  changed_->release();
  wake_();
}

BodyQueue::Taken BodyQueue::take() {
  const MutexLock lock(mutex_);
  return {.pieces = std::exchange(pieces_, {}), .end = end_};
}

void BodyQueue::sent(std::size_t bytes) {
  {
    const MutexLock lock(mutex_);
    unsent_ -= bytes;
    if (!starved_ || unsent_ > kBodyWindowBytes / 2) return;
    starved_ = false;
  }
  changed_->notify();
}

void BodyQueue::drop() {
  {
    const MutexLock lock(mutex_);
    if (std::exchange(gone_, true)) return;
    pieces_.clear();
  }
  changed_->notify_and_release();
}

}  // namespace celslm
