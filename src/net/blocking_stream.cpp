#include "net/blocking_stream.h"

#include <exception>
#include <utility>

#include "core/mutex.h"
#include "net/http_stream.h"

namespace celslm {
namespace {

// Room in a body, for a thread that waits for it. Lives as long as the body's callback.
class Room {
 public:
  explicit Room(BodyWriter& body) : body_(body) {}
  void changed() {
    const MutexLock lock(mutex_);
    ++changes_;
    changed_.notify_all();
  }
  // False once the client has gone.
  bool wait() {
    while (true) {
      const std::uint64_t seen = changes();
      if (body_.gone()) return false;
      if (body_.room() > 0) return true;
      const MutexLock lock(mutex_);
      changed_.wait(mutex_, [&]() CELSLM_REQUIRES(mutex_) { return changes_ != seen; });
    }
  }

 private:
  std::uint64_t changes() {
    const MutexLock lock(mutex_);
    return changes_;
  }
  BodyWriter& body_;
  Mutex mutex_;
  ConditionVariable changed_;
  std::uint64_t changes_ CELSLM_GUARDED_BY(mutex_) = 0;
};

bool run(const std::function<bool(const BodySink&)>& stream, BodyWriter& body, Log& log) {
  const auto room = std::make_shared<Room>(body);
  body.on_change([room] { room->changed(); });
  try {
    return stream([&](std::string_view piece) { return room->wait() && body.push(std::string(piece)); });
  } catch (const std::exception& e) {
    log->error("a stream threw: {}", e.what());
  } catch (...) {
    log->error("a stream threw");
  }
  return false;
}

}  // namespace

std::function<void(std::shared_ptr<BodyWriter>)> pushed_from(std::function<bool(const BodySink&)> stream, Log log) {
  return [stream = std::move(stream), log = std::move(log)](const std::shared_ptr<BodyWriter>& body) mutable {
    run(stream, *body, log) ? body->end() : body->abort();
  };
}

}  // namespace celslm
