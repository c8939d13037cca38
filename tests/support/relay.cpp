#include "tests/support/relay.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <deque>
#include <fstream>
#include <list>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "core/mutex.h"
#include "net/socket.h"

namespace celslm::testing_support {
namespace {

using std::chrono::steady_clock;
using Time = steady_clock::time_point;

constexpr std::chrono::milliseconds kQueueTime{10};
// A piece is one millisecond of traffic, within these limits: small enough to share a slow cable fairly, large enough to be
// efficient on a fast one.
constexpr std::size_t kMinPiece = 2U << 10;
constexpr std::size_t kMaxPiece = 64U << 10;
constexpr std::size_t kMaxInFlight = 8U << 20;  // per connection and direction, for long delays on fast links

// One direction of the cable.
struct Cable {
  Time free_at{};  // when all accepted data has been transmitted
  std::uint64_t bytes = 0;
};

struct Piece {
  Time due;
  std::string data;
};

struct Flow {
  int from = -1;
  int to = -1;
  std::deque<Piece> queue;
  std::size_t in_flight = 0;
  bool ended = false;    // the source has ended its stream
  bool blocked = false;  // the destination's socket buffer is full
  bool done = false;     // the end of the stream was forwarded
};

struct Pair {
  Fd client;
  Fd server;
  Flow up;
  Flow down;
  std::string sent;  // by the client, if recorded
  bool broken = false;
};

void reset(Fd& fd) {
  const struct linger now{.l_onoff = 1, .l_linger = 0};
  if (fd) ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  fd.reset();
}

}  // namespace

class Relay::Impl {
 public:
  Impl(RelayOptions options, Fd listener) : options_(std::move(options)), listener_(std::move(listener)) {
    rate_bytes_per_s_ = options_.rate_mbit * 1e6 / 8;
    if (options_.drop_after_bytes > 0) drop_left_ = options_.drop_after_bytes;
    if (options_.stall_after_bytes > 0) stall_left_ = options_.stall_after_bytes;
    thread_ = std::thread([this] { run(); });
  }
  ~Impl() {
    {
      const MutexLock lock(mutex_);
      stopping_ = true;
    }
    wakeup_.notify();
    thread_.join();
  }

  void run();
  void step() CELSLM_REQUIRES(mutex_);
  void accept_all() CELSLM_REQUIRES(mutex_);
  void take(Pair& pair, Flow& flow, Cable& cable, Time now) CELSLM_REQUIRES(mutex_);
  void spoil(std::string& data) CELSLM_REQUIRES(mutex_);
  void stall(std::size_t bytes) CELSLM_REQUIRES(mutex_);
  void cut_all() CELSLM_REQUIRES(mutex_);
  void finish(Pair& pair) CELSLM_REQUIRES(mutex_);
  static void give(Pair& pair, Flow& flow, Time now);
  static void break_pair(Pair& pair);
  static bool may_take(const Flow& flow, const Cable& cable, Time now);
  static void consider(const Flow& flow, const Cable& cable, Time now, Time& next, std::vector<pollfd>& entries);

  const RelayOptions options_;
  const Fd listener_;
  const Wakeup wakeup_;
  mutable Mutex mutex_;
  std::list<Pair> pairs_ CELSLM_GUARDED_BY(mutex_);
  std::string recorded_ CELSLM_GUARDED_BY(mutex_);  // of connections that ended
  Cable up_ CELSLM_GUARDED_BY(mutex_);
  Cable down_ CELSLM_GUARDED_BY(mutex_);
  double rate_bytes_per_s_ CELSLM_GUARDED_BY(mutex_) = 0;
  std::uint64_t drop_left_ CELSLM_GUARDED_BY(mutex_) = UINT64_MAX;
  std::uint64_t stall_left_ CELSLM_GUARDED_BY(mutex_) = UINT64_MAX;
  std::uint64_t garble_skip_ CELSLM_GUARDED_BY(mutex_) = 0;
  std::uint64_t garble_left_ CELSLM_GUARDED_BY(mutex_) = 0;
  int connections_ CELSLM_GUARDED_BY(mutex_) = 0;
  bool paused_ CELSLM_GUARDED_BY(mutex_) = false;
  bool down_link_ CELSLM_GUARDED_BY(mutex_) = false;  // cut: new connections are reset
  bool cut_requested_ CELSLM_GUARDED_BY(mutex_) = false;
  bool stall_requested_ CELSLM_GUARDED_BY(mutex_) = false;  // pause once the data received so far has been forwarded
  bool stopping_ CELSLM_GUARDED_BY(mutex_) = false;
  ConditionVariable cut_done_;
  std::thread thread_;
};

bool Relay::Impl::may_take(const Flow& flow, const Cable& cable, Time now) {
  return !flow.ended && flow.in_flight < kMaxInFlight && cable.free_at < now + kQueueTime;
}

// Adds what this flow waits for: its source, its destination, or a time.
void Relay::Impl::consider(const Flow& flow, const Cable& cable, Time now, Time& next, std::vector<pollfd>& entries) {
  if (may_take(flow, cable, now)) {
    entries.push_back({.fd = flow.from, .events = POLLIN, .revents = 0});
  } else if (!flow.ended && flow.in_flight < kMaxInFlight) {
    next = std::min(next, cable.free_at - kQueueTime + std::chrono::microseconds(100));
  }
  if (flow.queue.empty()) return;
  if (flow.blocked) {
    entries.push_back({.fd = flow.to, .events = POLLOUT, .revents = 0});
  } else {
    next = std::min(next, flow.queue.front().due);
  }
}

void Relay::Impl::run() {
  const MutexLock lock(mutex_);
  while (!stopping_) step();
  for (Pair& pair : pairs_) {
    break_pair(pair);
    finish(pair);
  }
  pairs_.clear();
}

void Relay::Impl::step() {
  Time now = steady_clock::now();
  Time next = now + std::chrono::seconds(60);
  std::vector<pollfd> entries{{.fd = wakeup_.fd(), .events = POLLIN, .revents = 0},
                              {.fd = listener_.get(), .events = POLLIN, .revents = 0}};
  for (const Pair& pair : pairs_) {
    if (paused_) break;
    consider(pair.up, up_, now, next, entries);
    consider(pair.down, down_, now, next, entries);
  }
  const auto wait = std::max(steady_clock::duration(0), next - now);
  const auto whole = std::chrono::floor<std::chrono::seconds>(wait);
  const timespec timeout{.tv_sec = whole.count(), .tv_nsec = std::chrono::nanoseconds(wait - whole).count()};
  mutex_.unlock();
  ::ppoll(entries.data(), entries.size(), &timeout, nullptr);
  mutex_.lock();
  wakeup_.drain();
  if (cut_requested_) cut_all();
  if (stopping_) return;
  now = steady_clock::now();
  if (!paused_) accept_all();
  for (Pair& pair : pairs_) {
    if (paused_ || stall_requested_) break;
    take(pair, pair.up, up_, now);
    take(pair, pair.down, down_, now);
  }
  for (Pair& pair : pairs_) {
    if (!paused_) give(pair, pair.up, now);
    if (!paused_) give(pair, pair.down, now);
    if (pair.broken || (pair.up.done && pair.down.done)) finish(pair);
  }
  if (std::exchange(stall_requested_, false)) paused_ = true;
  std::erase_if(pairs_, [](const Pair& pair) { return !pair.client; });
  // Rotates the connections, so that the oldest is not always served first.
  if (pairs_.size() > 1) pairs_.splice(pairs_.end(), pairs_, pairs_.begin());
}

void Relay::Impl::accept_all() {
  while (Fd client = accept_from(listener_.get())) {
    auto server = down_link_ ? fail(ErrorKind::kUnavailable, "cut")
                             : connect_to(options_.to_host, options_.to_port, std::chrono::seconds(1));
    if (!server) {
      reset(client);
      continue;
    }
    ++connections_;
    Pair& pair = pairs_.emplace_back(Pair{.client = std::move(client), .server = std::move(*server)});
    pair.up = {.from = pair.client.get(), .to = pair.server.get()};
    pair.down = {.from = pair.server.get(), .to = pair.client.get()};
  }
}

void Relay::Impl::spoil(std::string& data) {
  const auto skip = std::min<std::uint64_t>(garble_skip_, data.size());
  garble_skip_ -= skip;
  for (std::size_t i = skip; i < data.size() && garble_left_ > 0; ++i, --garble_left_)
    data[i] = static_cast<char>(data[i] ^ 1);
}

void Relay::Impl::stall(std::size_t bytes) {
  if (stall_left_ == UINT64_MAX) return;
  stall_requested_ = bytes >= stall_left_;
  stall_left_ = stall_requested_ ? UINT64_MAX : stall_left_ - bytes;
}

void Relay::Impl::take(Pair& pair, Flow& flow, Cable& cable, Time now) {
  std::array<char, kMaxPiece> buffer;
  const double millisecond = rate_bytes_per_s_ / 1000;
  const std::size_t piece =
      rate_bytes_per_s_ > 0 ? std::clamp(static_cast<std::size_t>(millisecond), kMinPiece, kMaxPiece) : kMaxPiece;
  // One piece per turn if the rate is limited, so that connections share it; otherwise all available data.
  for (int turn = 0; turn < 16 && !pair.broken && may_take(flow, cable, now); ++turn) {
    const ssize_t n = ::recv(flow.from, buffer.data(), piece, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0) return break_pair(pair);
    if (n == 0) {
      flow.ended = true;
      return;
    }
    std::string data(buffer.data(), static_cast<std::size_t>(n));
    cable.bytes += data.size();
    if (&flow == &pair.up && options_.record) pair.sent += data;
    if (&flow == &pair.down) {
      spoil(data);
      if (data.size() >= drop_left_) return cut_all();
      drop_left_ -= drop_left_ == UINT64_MAX ? 0 : data.size();
      stall(data.size());
    }
    cable.free_at = std::max(cable.free_at, now);
    if (rate_bytes_per_s_ > 0) {
      cable.free_at +=
          std::chrono::nanoseconds(static_cast<std::int64_t>(static_cast<double>(data.size()) * 1e9 / rate_bytes_per_s_));
    }
    flow.in_flight += data.size();
    flow.queue.push_back({.due = cable.free_at + options_.delay, .data = std::move(data)});
    if (rate_bytes_per_s_ > 0 || stall_requested_) return;
  }
}

void Relay::Impl::give(Pair& pair, Flow& flow, Time now) {
  flow.blocked = false;
  while (!pair.broken && !flow.queue.empty() && flow.queue.front().due <= now) {
    std::string& data = flow.queue.front().data;
    const ssize_t n = ::send(flow.to, data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
      flow.blocked = true;
      return;
    }
    if (n < 0) return break_pair(pair);
    flow.in_flight -= static_cast<std::size_t>(n);
    data.erase(0, static_cast<std::size_t>(n));
    if (data.empty()) flow.queue.pop_front();
  }
  if (flow.ended && flow.queue.empty() && !flow.done) {
    ::shutdown(flow.to, SHUT_WR);
    flow.done = true;
  }
}

void Relay::Impl::break_pair(Pair& pair) {
  reset(pair.client);
  reset(pair.server);
  pair.broken = true;
}

void Relay::Impl::cut_all() {
  down_link_ = true;
  cut_requested_ = false;
  cut_done_.notify_all();
  drop_left_ = UINT64_MAX;
  for (Pair& pair : pairs_) break_pair(pair);
}

void Relay::Impl::finish(Pair& pair) {
  pair.client.reset();
  pair.server.reset();
  if (!options_.record_file.empty()) std::ofstream(options_.record_file, std::ios::binary | std::ios::app) << pair.sent;
  recorded_ += std::exchange(pair.sent, {});
}

Relay::Relay(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Relay::~Relay() = default;

Result<std::unique_ptr<Relay>> Relay::start(const RelayOptions& given) {
  RelayOptions options = given;
  if (!options.record_file.empty()) {
    options.record = true;
    if (!std::ofstream(options.record_file, std::ios::binary)) {
      return fail(ErrorKind::kIo, "{}: cannot write", options.record_file.string());
    }
  }
  CELSLM_TRY(Fd listener, listen_on(options.listen_host, options.listen_port, 128));
  return std::unique_ptr<Relay>(new Relay(std::make_unique<Impl>(std::move(options), std::move(listener))));
}

int Relay::port() const {
  return local_port(impl_->listener_);
}
std::string Relay::url() const {
  return fmt::format("http://{}:{}", impl_->options_.listen_host, port());
}
std::uint64_t Relay::bytes_up() const {
  const MutexLock lock(impl_->mutex_);
  return impl_->up_.bytes;
}
std::uint64_t Relay::bytes_down() const {
  const MutexLock lock(impl_->mutex_);
  return impl_->down_.bytes;
}
int Relay::connections() const {
  const MutexLock lock(impl_->mutex_);
  return impl_->connections_;
}

std::string Relay::recorded() const {
  const MutexLock lock(impl_->mutex_);
  std::string out = impl_->recorded_;
  for (const Pair& pair : impl_->pairs_) out += pair.sent;
  return out;
}

void Relay::set_rate(double rate_mbit) {
  const MutexLock lock(impl_->mutex_);
  impl_->rate_bytes_per_s_ = rate_mbit * 1e6 / 8;
  impl_->wakeup_.notify();
}
void Relay::pause() {
  const MutexLock lock(impl_->mutex_);
  impl_->paused_ = true;
  impl_->wakeup_.notify();
}
void Relay::resume() {
  const MutexLock lock(impl_->mutex_);
  impl_->paused_ = impl_->down_link_ = false;
  impl_->wakeup_.notify();
}
void Relay::cut() {
  Impl& relay = *impl_;
  const MutexLock lock(relay.mutex_);
  relay.cut_requested_ = true;
  relay.wakeup_.notify();
  relay.cut_done_.wait(relay.mutex_, [&]() CELSLM_REQUIRES(relay.mutex_) { return !relay.cut_requested_; });
}
void Relay::drop_after(std::uint64_t bytes) {
  const MutexLock lock(impl_->mutex_);
  impl_->drop_left_ = std::max<std::uint64_t>(bytes, 1);
}
void Relay::garble(std::uint64_t skip, std::uint64_t count) {
  const MutexLock lock(impl_->mutex_);
  impl_->garble_skip_ = skip;
  impl_->garble_left_ = count;
}

}  // namespace celslm::testing_support
