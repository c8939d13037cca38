#include "net/connection.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "net/http_limits.h"

namespace celslm {

using std::chrono::milliseconds;

Connection::Connection(std::shared_ptr<ServerCore> core, Fd socket, std::unique_ptr<TlsSession> tls)
    : core_(std::move(core)), transport_(core_->io, std::move(socket), std::move(tls)), timer_(core_->io) {
  core_->table.add(*this, place_);
  peer_.address = transport_.peer_address();
}

void Connection::start() {
  enter(State::kHandshake);
  advance();
}

void Connection::refuse(int status) {
  exchange_ = std::make_unique<Exchange>();
  respond_last(core_->settings.refusal(status));
}

void Connection::end_idle() {
  if (state_ != State::kIdle) return;
  if (fill() != Transport::Outcome::kDone) return close();
  enter(State::kHead);
  boost::asio::post(core_->io, [self = shared_from_this()] { self->advance(); });
}

void Connection::close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  core_->table.remove(place_);
  transport_.close();
  timer_.cancel();
  out_.clear();
  if (!exchange_) return;
  core_->bodies.resize(exchange_->body_memory, 0);
  exchange_->client->end();
  if (exchange_->reply) exchange_->reply->drop();
  if (exchange_->body) exchange_->body->drop();
  exchange_.reset();
}

void Connection::enter(State state) {
  if (state_ == State::kClosed) return;
  state_ = state;
  since_ = Clock::now();
  using Place = ConnectionTable::State;
  switch (state) {
    case State::kHandshake:
    case State::kHead:
    case State::kBody: return core_->table.move(place_, Place::kReading);
    case State::kIdle: return core_->table.move(place_, Place::kIdle);
    case State::kWorking: return core_->table.move(place_, Place::kWorking);
    case State::kSending: return;
    case State::kLastBytes:
    case State::kLingering: return core_->table.move(place_, Place::kClosing);
    case State::kClosed: return;
  }
}

void Connection::advance() {
  while (state_ != State::kClosed && step()) {
  }
  if (state_ != State::kClosed) set_timer();
}

void Connection::wait_for(Transport::Wait wait) {
  bool& pending = wait == Transport::Wait::wait_read ? reading_ : wait == Transport::Wait::wait_write ? writing_ : erring_;
  if (std::exchange(pending, true)) return;
  transport_.async_wait(wait, [self = shared_from_this(), wait, &pending](boost::system::error_code error) {
    pending = false;
    if (self->state_ == State::kClosed) return;
    if (error) return self->close();
    self->on_ready(wait);
  });
}

void Connection::on_ready(Transport::Wait wait) {
  if (wait == Transport::Wait::wait_error) return client_unreachable();
  if (wait == Transport::Wait::wait_write && !out_.empty()) flush();
  advance();
}

// When the peer must have done what is waited for.
Connection::Clock::time_point Connection::deadline() const {
  const HttpServerOptions& options = core_->settings.options;
  const auto sending = [&] {
    const auto most = out_since_ + options.write_timeout + milliseconds(out_.added() * 1000 / kMinSendBytesPerS);
    return std::min(most, out_progress_ + options.write_timeout);
  };
  switch (state_) {
    case State::kHandshake:
    case State::kHead: return since_ + options.read_timeout;
    case State::kIdle: return since_ + (served_ ? kKeepAlive : options.read_timeout);
    case State::kBody: return since_ + options.read_timeout + milliseconds(reader_.body_bytes() * 1000 / kMinBodyBytesPerS);
    case State::kWorking:
      return reader_.buffered() >= kMaxPipelinedBytes ? Clock::now() + kProbeInterval : Clock::time_point::max();
    case State::kSending:
      if (!out_.empty()) return sending();
      if (exchange_->filler.empty()) return Clock::time_point::max();
      return exchange_->quiet_since + (input_ended_ ? kProbeInterval : kQuietInterval);
    case State::kLastBytes: return sending();
    case State::kLingering: return since_ + kLinger;
    case State::kClosed: break;
  }
  return Clock::time_point::max();
}

// The timer may be set to an earlier time than needed: it then sets itself again, which is cheaper than to move it with
// every byte.
void Connection::set_timer() {
  const auto wanted = deadline();
  if (wanted >= timer_at_) return;
  timer_at_ = wanted;
  timer_.expires_at(wanted);
  timer_.async_wait([self = weak_from_this()](boost::system::error_code error) {
    const auto connection = self.lock();
    if (!error && connection) connection->on_timer();
  });
}

void Connection::on_timer() {
  timer_at_ = Clock::time_point::max();
  if (state_ == State::kClosed) return;
  if (deadline() <= Clock::now()) on_deadline();
  if (state_ != State::kClosed) set_timer();
}

void Connection::on_deadline() {
  switch (state_) {
    case State::kHead:
      if (!reader_.has_input()) return close();
      [[fallthrough]];
    case State::kBody:
      if (!exchange_) exchange_ = std::make_unique<Exchange>();
      exchange_->will_linger = true;
      return respond_last(core_->settings.refusal(408));
    case State::kWorking: return watch();
    case State::kSending:
      if (out_.empty()) return write_filler();
      return client_unreachable();
    default: return close();
  }
}

}  // namespace celslm
