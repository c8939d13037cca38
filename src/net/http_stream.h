// Responses that outlive their handler: given later, or with a body that is pushed while it comes into being. A client that
// waits for either costs a connection and a little memory, no thread.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "net/http_types.h"

namespace celslm {

// Bytes of a pushed body that wait to be sent before room() is 0.
inline constexpr std::size_t kBodyWindowBytes = 256U << 10;
// Above this a client counts as too slow for its stream: one that reads nothing would fill memory with a long answer.
inline constexpr std::size_t kMaxUnsentBytes = 1U << 20;

// The body of a response whose handler has returned (HttpResponse::pushed). Thread-safe, never blocks. The server keeps the
// connection until end() or abort(); the last reference to go without either aborts.
class BodyWriter {
 public:
  virtual ~BodyWriter() = default;

  // Queues a piece of any size. False, and nothing is queued: nobody can read it any more (gone(), or the body has ended),
  // or more than kMaxUnsentBytes wait already, which ends the stream. Stop producing then.
  virtual bool push(std::string piece) = 0;
  // How much may be pushed for now, for producers that can wait: after 0 they go on when on_change() calls.
  virtual std::size_t room() const = 0;
  // The body is complete. The connection serves further requests.
  virtual void end() = 0;
  // It stays incomplete: the connection is closed in a way that shows the client that.
  virtual void abort() = 0;

  // Nothing that is pushed can reach the client: it reset the connection, or closed it and was written to, or was too slow,
  // or the server stops. A client that has only closed its sending side is still there.
  virtual bool gone() const = 0;
  // `changed` is called on a thread of the server's, one call at a time: when there is room again after room() was 0, and
  // once when the client has gone (at once if it has already). It is released when the body has ended. Set it once.
  virtual void on_change(std::function<void()> changed) = 0;
};

// A response that is not known yet when its handler returns (HttpResponse::deferred): a generation that is not streamed, a
// long poll. Thread-safe, never blocks. The last reference to go without send() answers 500.
class HttpReply {
 public:
  virtual ~HttpReply() = default;

  // The response; with a body, or with one of HttpResponse's later ones. Only the first call counts.
  virtual void send(HttpResponse response) = 0;
  // The client has closed the connection, or at least its sending side (as HttpRequest::disconnected): it gets no response.
  virtual bool gone() const = 0;
  // `left` is called once on a thread of the server's when the client has gone before send(), at once if it has already; it
  // is released by send(). Set it once.
  virtual void on_gone(std::function<void()> left) = 0;
};

}  // namespace celslm
