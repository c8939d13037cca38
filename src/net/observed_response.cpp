#include "net/observed_response.h"

#include <memory>
#include <utility>

#include "net/http_stream.h"

namespace celslm {
namespace {

class ObservedReply final : public HttpReply {
 public:
  ObservedReply(std::shared_ptr<HttpReply> reply, std::function<void(int)> seen)
      : reply_(std::move(reply)), seen_(std::move(seen)) {}
  void send(HttpResponse response) override { reply_->send(observed(std::move(response), seen_)); }
  bool gone() const override { return reply_->gone(); }
  void on_gone(std::function<void()> left) override { reply_->on_gone(std::move(left)); }

 private:
  const std::shared_ptr<HttpReply> reply_;
  const std::function<void(int)> seen_;
};

}  // namespace

HttpResponse observed(HttpResponse response, std::function<void(int status)> seen) {
  if (!response.deferred) {
    seen(response.status);
    return response;
  }
  return {.deferred = [begin = std::move(response.deferred), seen = std::move(seen)](std::shared_ptr<HttpReply> reply) {
    begin(std::make_shared<ObservedReply>(std::move(reply), seen));
  }};
}

}  // namespace celslm
