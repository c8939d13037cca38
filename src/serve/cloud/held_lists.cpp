#include "serve/cloud/held_lists.h"

#include <algorithm>
#include <utility>

#include "net/http_stream.h"

namespace celslm {
namespace {

// A connection and little memory each; further edges ask again from time to time.
constexpr std::size_t kMaxHeld = 10'000;
constexpr Duration kIdle = std::chrono::hours(1);  // nothing waits

}  // namespace

HeldLists::HeldLists(const Clock& clock, Revision revision, Answer answer)
    : clock_(clock),
      revision_(std::move(revision)),
      answer_(std::move(answer)),
      changed_(clock),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

HttpResponse HeldLists::hold(std::string since, Duration wait) {
  if (is_full() || revision_() != since) return answer_(since);
  const TimePoint until = clock_.now() + wait;
  return {.deferred = [this, since = std::move(since), until](const std::shared_ptr<HttpReply>& reply) {
    add(since, until, reply);
  }};
}

bool HeldLists::is_stopped() const {
  const MutexLock lock(mutex_);
  return stopped_;
}

bool HeldLists::is_full() const {
  const MutexLock lock(mutex_);
  return stopped_ || held_.size() >= kMaxHeld;
}

void HeldLists::add(const std::string& since, TimePoint until, const std::shared_ptr<HttpReply>& reply) {
  Key key;
  {
    const MutexLock lock(mutex_);
    key = {until, next_++};
    if (!stopped_) held_.emplace(key, Held{.since = since, .reply = reply});
  }
  if (is_stopped()) return reply->send(answer_(since));  // a second time is ignored
  reply->on_gone([this, key] { remove(key); });
  changed_.notify_all();  // it may be due first of all, and a change may have come since it asked
}

void HeldLists::remove(const Key& key) {
  const MutexLock lock(mutex_);
  held_.erase(key);
}

HeldLists::All HeldLists::take_due(const std::string& revision) {
  All due;
  const TimePoint now = clock_.now();
  for (auto it = held_.begin(); it != held_.end();) {
    const auto next = std::next(it);
    if (it->first.first <= now || it->second.since != revision) due.insert(held_.extract(it));
    it = next;
  }
  return due;
}

void HeldLists::run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    All due;
    {
      const MutexLock lock(mutex_);
      const TimePoint now = clock_.now();
      const TimePoint first = first_deadline(now + kIdle);
      changed_.wait_for(mutex_, stop, first - now, [&]() CELSLM_REQUIRES(mutex_) {
        due = take_due(revision_());
        return !due.empty() || first_deadline(first) < first;
      });
    }
    answer(due);
  }
}

// Of those that wait; `otherwise` if there is none.
TimePoint HeldLists::first_deadline(TimePoint otherwise) const {
  return held_.empty() ? otherwise : held_.begin()->first.first;
}

// Most know the same revision: the answer to it is made once.
void HeldLists::answer(const All& due) const {
  std::map<std::string, HttpResponse> answers;
  for (const auto& [key, held] : due) {
    auto it = answers.find(held.since);
    if (it == answers.end()) it = answers.emplace(held.since, answer_(held.since)).first;
    held.reply->send(it->second);
  }
}

void HeldLists::stop() {
  All left;
  {
    const MutexLock lock(mutex_);
    stopped_ = true;
    left = std::exchange(held_, {});
  }
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
  answer(left);
}

std::size_t HeldLists::size() const {
  const MutexLock lock(mutex_);
  return held_.size();
}

}  // namespace celslm
