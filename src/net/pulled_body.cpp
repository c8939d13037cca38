#include "net/pulled_body.h"

#include <utility>

#include "core/mutex.h"
#include "net/http_stream.h"

namespace celslm {
namespace {

using Next = std::function<Result<std::optional<std::string>>()>;

class Pump {
 public:
  Pump(std::shared_ptr<BodyWriter> body, Next next) : body_(std::move(body)), next_(std::move(next)) {}

  void run() CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    while (next_ && body_->room() > 0) {
      auto piece = next_();
      if (piece && *piece && body_->push(*std::move(*piece))) continue;
      piece && !*piece ? body_->end() : body_->abort();
      next_ = {};
    }
    if (body_->gone()) next_ = {};
  }

 private:
  const std::shared_ptr<BodyWriter> body_;
  Mutex mutex_;
  Next next_ CELSLM_GUARDED_BY(mutex_);  // empty once the body has ended
};

}  // namespace

std::function<void(std::shared_ptr<BodyWriter>)> pulled_body(Next next) {
  return [next = std::move(next)](std::shared_ptr<BodyWriter> body) {
    const auto pump = std::make_shared<Pump>(body, next);
    body->on_change([pump] { pump->run(); });
    pump->run();
  };
}

}  // namespace celslm
