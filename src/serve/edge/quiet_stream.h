// A stream of events while nothing comes: whether its client is still there, and comments that keep the connection.
#pragma once

#include <functional>
#include <utility>

#include "core/clock.h"
#include "net/http_types.h"
#include "serve/openai/openai.h"

namespace celslm {

inline constexpr Duration kStreamPatience =
    std::chrono::milliseconds(100);  // how often a quiet stream looks after its client

// Comments: often to a client that has closed its sending side, since only what is written to it tells whether it still
// reads; otherwise now and then, since proxies close quiet connections after 30 to 60 s. Not thread-safe.
class QuietStream {
 public:
  QuietStream(const HttpRequest& http, const Clock& clock)
      : disconnected_(http.disconnected), unreachable_(http.unreachable), clock_(clock), written_(clock.now()) {}

  void wrote() { written_ = clock_.now(); }
  // To be called when nothing came for kStreamPatience. False once the client cannot be reached.
  bool look_after(const BodySink& send) {
    if (unreachable_ && unreachable_()) return false;
    const bool may_have_gone = disconnected_ && disconnected_();
    const bool first = may_have_gone && !std::exchange(probed_, true);
    const Duration interval = may_have_gone ? Duration(std::chrono::seconds(1)) : Duration(std::chrono::seconds(10));
    if (!first && clock_.now() - written_ < interval) return true;
    wrote();
    return send(CompletionWriter::comment_event());
  }

 private:
  const std::function<bool()> disconnected_;
  const std::function<bool()> unreachable_;
  const Clock& clock_;
  TimePoint written_;
  bool probed_ = false;
};

}  // namespace celslm
