#include <boost/asio/post.hpp>
#include <utility>

#include "net/blocking_stream.h"
#include "net/connection.h"
#include "net/http_limits.h"

namespace celslm {

std::function<void()> Connection::waker() {
  return [self = weak_from_this()] {
    const auto connection = self.lock();
    if (!connection) return;
    boost::asio::post(connection->core_->io, [self] {
      if (const auto woken = self.lock()) woken->on_woken();
    });
  };
}

void Connection::deliver(HttpResponse response) {
  if (response.deferred) {
    const auto reply = std::make_shared<PendingReply>(waker(), core_->run_soon);
    boost::asio::post(core_->io, [self = shared_from_this(), reply] { self->begin_reply(reply); });
    try {
      response.deferred(PendingReply::sender(reply, core_->settings.refusal(500)));
    } catch (...) {
      core_->settings.log->error("a handler's deferred response threw an exception");
    }
    return;
  }
  if (response.stream) response.pushed = pushed_from(std::exchange(response.stream, {}), core_->settings.log);
  std::shared_ptr<BodyQueue> body;
  if (response.pushed) body = std::make_shared<BodyQueue>(waker(), core_->run_soon);
  HttpResponse head = response;
  head.pushed = {};
  boost::asio::post(core_->io, [self = shared_from_this(), head = std::move(head), body]() mutable {
    self->respond(std::move(head), std::move(body));
  });
  if (body) start_body(response, body);
}

void Connection::start_body(const HttpResponse& response, const std::shared_ptr<BodyQueue>& body) {
  try {
    response.pushed(BodyQueue::writer(body));
  } catch (...) {
    core_->settings.log->error("a handler's pushed response threw an exception");
    body->abort();
  }
}

void Connection::begin_reply(std::shared_ptr<PendingReply> reply) {
  if (state_ != State::kWorking) return reply->drop();
  exchange_->reply = std::move(reply);
  if (exchange_->client->disconnected) exchange_->reply->drop();
  on_woken();
}

void Connection::on_woken() {
  if (!exchange_) return;
  if (exchange_->reply) {
    auto response = exchange_->reply->take();
    if (!response) return;
    exchange_->reply.reset();
    if (!response->pushed && !response->deferred && !response->stream) return respond(*std::move(response), nullptr);
    core_->run_soon([self = shared_from_this(), response = *std::move(response)] { self->deliver(response); });
  }
  if (exchange_->body) pump_body();
}

void Connection::respond(HttpResponse response, std::shared_ptr<BodyQueue> body) {
  if (state_ != State::kWorking) {
    if (body) body->drop();
    return;
  }
  Exchange& now = *exchange_;
  if (response.status < 200 || response.status > 599) response.status = 500;
  now.last = now.last || core_->table.draining();
  const bool empty = !body && response.body.empty();
  if (empty && (response.status == 204 || response.status == 304)) {
    now.framing = BodyFraming::kNone;
  } else if (!body || response.content_length) {
    now.framing = BodyFraming::kLength;
    if (!body) response.content_length = response.body.size();
  } else {
    now.framing = now.http_1_0 ? BodyFraming::kUntilEnd : BodyFraming::kChunked;
  }
  if (now.request) {
    for (auto& [name, value] : core_->settings.cross_origin.answer_headers(now.request->headers))
      response.headers[name] = value;
  }
  out_.add(response_head(response, now.framing, now.last));
  const bool hides_body = now.request && now.request->method == "HEAD";
  if (!body && !hides_body) out_.add(std::move(response.body));
  now.left = response.content_length.value_or(0);
  if (body && (hides_body || response.content_length == 0)) {
    body->drop();
    body = nullptr;
  }
  if (body) {
    now.end = BodyQueue::End::kOpen;
    now.filler = std::move(response.filler);
    now.ends_with_input = response.ends_with_input;
    now.quiet_since = Clock::now();
    now.body = std::move(body);
  }
  enter(State::kSending);
  if (now.body) return pump_body();
  flush();
}

// A response after which nothing is read.
void Connection::respond_last(const HttpResponse& response) {
  if (state_ == State::kClosed) return;
  HttpResponse complete = response;
  if (exchange_->request) {
    for (auto& [name, value] : core_->settings.cross_origin.answer_headers(exchange_->request->headers))
      complete.headers[name] = value;
  }
  std::string text = closing_response(complete);
  if (exchange_->request && exchange_->request->method == "HEAD") text.resize(text.size() - complete.body.size());
  out_.add(std::move(text));
  enter(State::kLastBytes);
  flush();
}

void Connection::pump_body() {
  if (state_ != State::kSending) return;
  BodyQueue::Taken taken = exchange_->body->take();
  if (!taken.pieces.empty()) exchange_->quiet_since = Clock::now();
  exchange_->end = taken.end;
  for (std::string& piece : taken.pieces) {
    const std::size_t size = piece.size();
    if (add_piece(std::move(piece), size)) continue;
    exchange_->end = BodyQueue::End::kAborted;  // longer than announced
    break;
  }
  const bool has_length = exchange_->framing == BodyFraming::kLength;
  if (exchange_->end == BodyQueue::End::kComplete && has_length && exchange_->left > 0)
    exchange_->end = BodyQueue::End::kAborted;
  if (exchange_->end == BodyQueue::End::kComplete && exchange_->framing == BodyFraming::kChunked)
    out_.add(std::string(kLastChunk));
  flush();
}

// body_bytes: of BodyQueue's count.
bool Connection::add_piece(std::string piece, std::size_t body_bytes) {
  const std::size_t size = piece.size();
  switch (exchange_->framing) {
    case BodyFraming::kLength:
      if (size > exchange_->left) return false;
      exchange_->left -= size;
      break;
    case BodyFraming::kChunked: out_.add(chunk_head(size)); break;
    case BodyFraming::kUntilEnd:
    case BodyFraming::kNone: break;
  }
  out_.add(std::move(piece), body_bytes);
  if (exchange_->framing == BodyFraming::kChunked) out_.add("\r\n");
  return true;
}

void Connection::write_filler() {
  exchange_->quiet_since = Clock::now();
  add_piece(exchange_->filler, 0);
  flush();
}

}  // namespace celslm
