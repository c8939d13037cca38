// One connection of a server, from its acceptance to its end: a state machine that the I/O thread advances whenever bytes
// have come, can be sent, or a time limit has passed. It never blocks, and holds no buffer while it waits for a request.
//
// Slow peers are bounded in total, not only per read: a request head must be complete within `read_timeout` and
// kMaxHeadBytes, a body must reach an average of kMinBodyBytesPerS, and what is sent one of kMinSendBytesPerS.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "net/connection_table.h"
#include "net/exchange.h"
#include "net/output_queue.h"
#include "net/request_reader.h"
#include "net/server_core.h"
#include "net/transport.h"

namespace celslm {

// Kept alive by what it waits for; gone once it is closed and no handler works for it. Used by the I/O thread only, except
// where noted.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Clock = std::chrono::steady_clock;

  Connection(std::shared_ptr<ServerCore> core, Fd socket, std::unique_ptr<TlsSession> tls);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void start();
  // Closes, unless the next request has arrived: that is answered.
  void end_idle();
  // Ends everything now: whoever produces a response is told that the client has gone. Idempotent.
  void close();
  // Refuses a connection for which there is no room, in place of start().
  void refuse(int status);

  const ConnectionTable::Place& place() const { return place_; }

 private:
  enum class State {
    kHandshake,
    kIdle,       // no byte of the next request is here
    kHead,       // the request's head is arriving
    kBody,       // its body is arriving
    kWorking,    // a handler or a producer owes the response
    kSending,    // the response is known; its body may still be pushed
    kLastBytes,  // what is sent is the connection's last; its input is not read any more
    kLingering,  // all is sent; input is discarded
    kClosed,
  };

  // connection.cpp: states and time limits
  void advance();
  void enter(State state);
  void wait_for(Transport::Wait wait);
  void on_ready(Transport::Wait wait);
  Clock::time_point deadline() const;
  void set_timer();
  void on_timer();
  void on_deadline();

  // connection_input.cpp: from bytes to requests
  bool step();  // false: nothing can be done until something comes
  bool step_handshake();
  bool step_head();
  bool step_body();
  bool step_linger();
  Transport::Outcome fill();
  void next_request();
  void take_request();
  void refuse_request(Refused refused);
  void begin_body();
  bool fits_memory();
  void dispatch();
  void watch();  // for the client's end, while its request is answered

  // connection_output.cpp: from responses to bytes
  void deliver(HttpResponse response);  // from a handler's or producer's thread
  void start_body(const HttpResponse& response, const std::shared_ptr<BodyQueue>& body);
  void begin_reply(std::shared_ptr<PendingReply> reply);
  void respond(HttpResponse response, std::shared_ptr<BodyQueue> body);
  void respond_last(const HttpResponse& response);
  void on_woken();
  void pump_body();
  bool add_piece(std::string piece, std::size_t body_bytes);
  void write_filler();
  void flush();
  void on_flushed();
  void end_exchange();
  void client_closed();       // its sending side, at least
  void client_unreachable();  // closes
  std::function<void()> waker();

  const std::shared_ptr<ServerCore> core_;
  Transport transport_;
  boost::asio::steady_timer timer_;
  Clock::time_point timer_at_ = Clock::time_point::max();  // what it is set to
  ConnectionTable::Place place_;
  Peer peer_;
  State state_ = State::kHandshake;
  Clock::time_point since_;  // in this state
  RequestReader reader_;
  OutputQueue out_;
  bool sending_ = false;            // out_ has bytes that flush() has seen
  Clock::time_point out_since_;     // when it began to have
  Clock::time_point out_progress_;  // when something was last written
  std::size_t lingered_ = 0;
  bool served_ = false;       // a request, so that the next one may take longer to come
  bool input_ended_ = false;  // the client's
  bool reading_ = false;      // a wait for input is pending
  bool writing_ = false;
  bool erring_ = false;
  std::unique_ptr<Exchange> exchange_;  // the request being read or answered
};

}  // namespace celslm
