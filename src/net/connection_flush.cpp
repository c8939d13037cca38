#include <boost/asio/post.hpp>
#include <utility>

#include "net/connection.h"

namespace celslm {

// Writes as much as the socket takes.
void Connection::flush() {
  if (!std::exchange(sending_, true)) out_since_ = out_progress_ = Clock::now();
  while (!out_.empty()) {
    const Transport::Result result = transport_.write(out_.front());
    if (result.outcome == Transport::Outcome::kWait) {
      wait_for(result.wait);
      return set_timer();
    }
    if (result.outcome != Transport::Outcome::kDone) return client_unreachable();
    out_progress_ = Clock::now();
    const std::size_t body_bytes = out_.consume(result.bytes);
    if (body_bytes > 0 && exchange_ && exchange_->body) exchange_->body->sent(body_bytes);
  }
  sending_ = false;
  on_flushed();
}

void Connection::on_flushed() {
  if (state_ == State::kLastBytes) {
    const bool linger = exchange_->will_linger;
    transport_.end_sending();
    if (!linger) return close();
    enter(State::kLingering);
    return advance();
  }
  if (state_ != State::kSending) return;
  switch (exchange_->end) {
    case BodyQueue::End::kOpen: return set_timer();
    case BodyQueue::End::kComplete: return end_exchange();
    case BodyQueue::End::kAborted:
      if (exchange_->http_1_0) transport_.reset_on_close();  // HTTP/1.0 has no other way to show it
      return close();
  }
}

void Connection::end_exchange() {
  core_->bodies.resize(exchange_->body_memory, 0);
  exchange_->client->end();
  const bool last = exchange_->last || core_->table.draining();
  exchange_.reset();
  if (last) {
    transport_.end_sending();
    // With unread input closing would reset the connection, and the client might lose the response.
    if (reader_.buffered() == 0) return close();
    enter(State::kLingering);
    return set_timer();
  }
  served_ = true;
  next_request();
}

// Not from within the last one: a client that sends many requests at once would fill the stack, and keep others waiting.
void Connection::next_request() {
  const bool begun = reader_.buffered() > 0;
  if (!begun) reader_.release_memory();
  enter(begun ? State::kHead : State::kIdle);
  boost::asio::post(core_->io, [self = shared_from_this()] { self->advance(); });
}

void Connection::client_closed() {
  exchange_->client->disconnected = true;
  if (exchange_->reply) exchange_->reply->drop();
  if (exchange_->body && exchange_->ends_with_input) return client_unreachable();
  // Only what is written tells whether the client still reads.
  if (state_ == State::kSending && !exchange_->filler.empty() && out_.empty() && !std::exchange(exchange_->probed, true))
    write_filler();
}

void Connection::client_unreachable() {
  close();
}

}  // namespace celslm
