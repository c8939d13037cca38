// Passes connections on, and keeps what is sent over them.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cli/audit/sent_request.h"
#include "core/clock.h"
#include "core/mutex.h"
#include "core/result.h"
#include "net/socket.h"

namespace celslm {

// Where connections come from and where they go.
struct ProxiedServer {
  std::string name;
  Fd listener;                          // non-blocking
  std::function<Result<Fd>()> connect;  // to the server, non-blocking; an error resets the connection
  bool recorded = true;
};

// One thread passes bytes in both directions, without reading anything into them. Thread-safe; the clock must outlive it.
class RecordingProxy {
 public:
  // kOverloaded if the system has no thread left.
  static Result<std::unique_ptr<RecordingProxy>> start(std::vector<ProxiedServer> servers, const Clock& clock);
  ~RecordingProxy();
  RecordingProxy(const RecordingProxy&) = delete;
  RecordingProxy& operator=(const RecordingProxy&) = delete;

  std::vector<Conversation> recorded() const CELSLM_EXCLUDES(mutex_);
  // When a byte last moved over a recorded connection, in either direction.
  TimePoint last_moved() const CELSLM_EXCLUDES(mutex_);

 private:
  struct Side {
    Fd socket;
    std::string pending;    // to be written to it
    bool ended = false;     // it has closed its sending side
    bool end_sent = false;  // and so has this proxy towards it
  };
  struct Pair {
    std::size_t server = 0;
    Side edge;
    Side upstream;
    Conversation record;
    bool broken = false;
  };

  RecordingProxy(std::vector<ProxiedServer> servers, const Clock& clock);
  void run(const std::stop_token& stop);
  void step() CELSLM_EXCLUDES(mutex_);
  void accept_all() CELSLM_REQUIRES(mutex_);
  void accept(std::size_t server, Fd client) CELSLM_REQUIRES(mutex_);
  void move(Pair& pair) CELSLM_REQUIRES(mutex_);
  bool read_from(Pair& pair, Side& from, Side& to) CELSLM_REQUIRES(mutex_);
  static bool write_to(Side& to, bool source_ended);

  const std::vector<ProxiedServer> servers_;
  const Clock& clock_;
  const Wakeup wakeup_;
  mutable Mutex mutex_;
  std::list<Pair> pairs_ CELSLM_GUARDED_BY(mutex_);
  std::vector<Conversation> ended_ CELSLM_GUARDED_BY(mutex_);
  TimePoint last_moved_ CELSLM_GUARDED_BY(mutex_);
  std::jthread thread_;
};

}  // namespace celslm
