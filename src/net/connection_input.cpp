#include <boost/asio/post.hpp>
#include <utility>
#include <variant>

#include "net/connection.h"
#include "net/http_limits.h"

namespace celslm {

using Outcome = Transport::Outcome;

bool Connection::step() {
  switch (state_) {
    case State::kHandshake: return step_handshake();
    case State::kIdle:
    case State::kHead: return step_head();
    case State::kBody: return step_body();
    case State::kLingering: return step_linger();
    case State::kWorking:
    case State::kSending: watch(); return false;
    case State::kLastBytes:
    case State::kClosed: return false;
  }
  return false;
}

bool Connection::step_handshake() {
  const Transport::Result result = transport_.handshake();
  if (result.outcome == Outcome::kDone) {
    peer_.certificate = transport_.peer_certificate();
    enter(State::kIdle);
    return true;
  }
  if (result.outcome == Outcome::kWait) {
    wait_for(result.wait);
    return false;
  }
  if (const std::string problem = transport_.certificate_problem(); !problem.empty())
    core_->settings.refusals->refused(peer_.address, "client certificate: " + problem, Clock::now());
  close();
  return false;
}

// Moves what the socket has to the reader, once; waits if it has nothing.
Outcome Connection::fill() {
  if (input_ended_) return Outcome::kEnd;
  const Transport::Result result = transport_.read(core_->scratch);
  if (result.outcome == Outcome::kDone) reader_.append({core_->scratch.data(), result.bytes});
  if (result.outcome == Outcome::kWait) wait_for(result.wait);
  if (result.outcome == Outcome::kEnd) input_ended_ = true;
  return result.outcome;
}

bool Connection::step_head() {
  switch (reader_.read_head()) {
    case RequestReader::Progress::kDone: take_request(); return true;
    case RequestReader::Progress::kRefused:
      exchange_ = std::make_unique<Exchange>();
      exchange_->will_linger = true;
      respond_last(core_->settings.refusal(reader_.status()));
      return true;
    case RequestReader::Progress::kMore: break;
  }
  switch (fill()) {
    case Outcome::kDone:
      if (state_ == State::kIdle) enter(State::kHead);
      return true;
    case Outcome::kWait: return false;
    case Outcome::kEnd:
      if (!reader_.has_input()) break;
      exchange_ = std::make_unique<Exchange>();
      respond_last(core_->settings.refusal(400));
      return true;
    case Outcome::kBroken: break;
  }
  close();
  return false;
}

void Connection::take_request() {
  auto decided = admit(core_->settings, reader_.take_head(), peer_);
  exchange_ = std::make_unique<Exchange>();
  if (auto* refused = std::get_if<Refused>(&decided)) return refuse_request(std::move(*refused));
  auto& admitted = std::get<Admitted>(decided);
  exchange_->request = std::make_shared<HttpRequest>(std::move(admitted.request));
  exchange_->request->disconnected = [client = exchange_->client] { return client->disconnected.load(); };
  exchange_->request->unreachable = [client = exchange_->client] { return client->unreachable.load(); };
  exchange_->handler = admitted.handler;
  exchange_->is_open = admitted.is_open;
  exchange_->http_1_0 = admitted.http_1_0;
  exchange_->last = admitted.asks_to_close || admitted.http_1_0;
  enter(State::kBody);
  if (admitted.expects_continue) {
    out_.add("HTTP/1.1 100 Continue\r\n\r\n");
    flush();
  }
  if (state_ == State::kBody) begin_body();
}

void Connection::refuse_request(Refused refused) {
  exchange_->request = std::make_shared<HttpRequest>(std::move(refused.request));
  exchange_->http_1_0 = refused.http_1_0;
  exchange_->last = refused.asks_to_close || refused.http_1_0 || refused.body_follows;
  exchange_->will_linger = refused.body_follows;
  if (refused.body_follows) return respond_last(refused.response);
  // The reader goes on behind a request without body.
  if (reader_.begin_body(0) != RequestReader::Progress::kDone) return respond_last(refused.response);
  enter(State::kWorking);
  respond(std::move(refused.response), nullptr);
}

void Connection::begin_body() {
  if (reader_.begin_body(core_->settings.options.max_body_bytes) != RequestReader::Progress::kRefused) return;
  exchange_->will_linger = true;
  respond_last(core_->settings.refusal(reader_.status()));
}

// Of large bodies only so many may be here at the same time.
bool Connection::fits_memory() {
  const std::size_t bytes = reader_.body_bytes();
  const std::size_t counted = bytes > kSmallBodyBytes ? bytes - kSmallBodyBytes : 0;
  return core_->bodies.resize(exchange_->body_memory, counted) || counted == 0;
}

bool Connection::step_body() {
  const RequestReader::Progress progress = reader_.read_body();
  int status = progress == RequestReader::Progress::kRefused ? reader_.status() : 0;
  if (status == 0 && !fits_memory()) status = 429;
  if (status == 0 && progress == RequestReader::Progress::kDone) {
    dispatch();
    return true;
  }
  if (status == 0) {
    const Outcome outcome = fill();
    if (outcome == Outcome::kDone) return true;
    if (outcome == Outcome::kWait) return false;
    if (outcome == Outcome::kBroken) {
      close();
      return false;
    }
    status = 400;
  }
  exchange_->will_linger = true;
  respond_last(core_->settings.refusal(status));
  return true;
}

void Connection::dispatch() {
  exchange_->request->body = reader_.take_body();
  enter(State::kWorking);
  const auto run = [self = shared_from_this(), request = exchange_->request, handler = exchange_->handler] {
    HttpResponse response;
    try {
      response = (*handler)(*request);
    } catch (...) {
      self->core_->settings.log->error("{} {}: the handler threw an exception", request->method, request->path);
      response = self->core_->settings.refusal(500);
    }
    self->deliver(std::move(response));
  };
  if (!core_->run_handler(exchange_->is_open, run)) respond(core_->settings.refusal(429), nullptr);
}

void Connection::watch() {
  while (!input_ended_ && reader_.buffered() < kMaxPipelinedBytes) {
    const Outcome outcome = fill();
    if (outcome == Outcome::kWait) return;
    if (outcome == Outcome::kBroken) return client_unreachable();
  }
  // Either there is nothing more to read, or more than is kept: only closing and resets are of interest now.
  wait_for(Transport::Wait::wait_error);
  if (input_ended_ || transport_.peer_has_closed()) client_closed();
}

bool Connection::step_linger() {
  const Transport::Result result = transport_.read(core_->scratch);
  lingered_ += result.bytes;
  if (result.outcome == Outcome::kDone && lingered_ < kLingerBytes) return true;
  if (result.outcome == Outcome::kWait) {
    wait_for(result.wait);
  } else {
    close();
  }
  return false;
}

}  // namespace celslm
