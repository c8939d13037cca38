// One request of a connection and its response.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "net/body_queue.h"
#include "net/pending_reply.h"
#include "net/response_text.h"
#include "net/router.h"

namespace celslm {

// What HttpRequest::disconnected and unreachable report; outlives its request, after which both are true.
struct ClientState {
  std::atomic<bool> disconnected{false};
  std::atomic<bool> unreachable{false};

  void end() {
    unreachable = true;
    disconnected = true;
  }
};

// Used by the I/O thread, except that a handler reads `request`, which is constant while it runs.
struct Exchange {
  std::shared_ptr<HttpRequest> request;
  std::shared_ptr<ClientState> client = std::make_shared<ClientState>();
  const HttpHandler* handler = nullptr;
  bool is_open = false;
  bool http_1_0 = false;
  bool last = false;            // the connection is closed behind it
  bool will_linger = false;     // because the request was not read to its end
  std::size_t body_memory = 0;  // of ServerCore::bodies

  std::shared_ptr<PendingReply> reply;             // owed
  std::shared_ptr<BodyQueue> body;                 // being pushed
  BodyQueue::End end = BodyQueue::End::kComplete;  // of the body
  BodyFraming framing = BodyFraming::kNone;
  std::uint64_t left = 0;  // of a body with a length
  std::string filler;
  bool ends_with_input = false;
  std::chrono::steady_clock::time_point quiet_since;
  bool probed = false;  // since the client has closed its sending side
};

}  // namespace celslm
