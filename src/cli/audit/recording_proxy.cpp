#include "cli/audit/recording_proxy.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

#include "core/spawn.h"

namespace celslm {
namespace {

constexpr std::size_t kPiece = 64U << 10;
constexpr std::size_t kMostPending = 1U << 20;  // of one direction of a connection: more is left in the kernel's buffers

// Readable as long as there is room for what is read, writable where something waits.
pollfd interest(int socket, bool source_ended, std::size_t pending_there, std::size_t pending_here) {
  const bool reads = !source_ended && pending_there < kMostPending;
  return {.fd = socket, .events = static_cast<short>((reads ? POLLIN : 0) | (pending_here > 0 ? POLLOUT : 0)), .revents = 0};
}

}  // namespace

RecordingProxy::RecordingProxy(std::vector<ProxiedServer> servers, const Clock& clock)
    : servers_(std::move(servers)), clock_(clock), last_moved_(clock.now()) {}

RecordingProxy::~RecordingProxy() {
  thread_.request_stop();
  wakeup_.notify();
}

Result<std::unique_ptr<RecordingProxy>> RecordingProxy::start(std::vector<ProxiedServer> servers, const Clock& clock) {
  std::unique_ptr<RecordingProxy> out(new RecordingProxy(std::move(servers), clock));
  CELSLM_TRY(out->thread_, spawn_thread([proxy = out.get()](const std::stop_token& stop) { proxy->run(stop); }));
  return out;
}

void RecordingProxy::run(const std::stop_token& stop) {
  while (!stop.stop_requested()) step();
}

void RecordingProxy::step() {
  std::vector<pollfd> entries{{.fd = wakeup_.fd(), .events = POLLIN, .revents = 0}};
  for (const ProxiedServer& server : servers_)
    entries.push_back({.fd = server.listener.get(), .events = POLLIN, .revents = 0});
  {
    const MutexLock lock(mutex_);
    for (const Pair& pair : pairs_) {
      const Side& edge = pair.edge;
      const Side& up = pair.upstream;
      entries.push_back(interest(edge.socket.get(), edge.ended, up.pending.size(), edge.pending.size()));
      entries.push_back(interest(up.socket.get(), up.ended, edge.pending.size(), up.pending.size()));
    }
  }
  ::poll(entries.data(), entries.size(), -1);
  wakeup_.drain();
  const MutexLock lock(mutex_);
  accept_all();
  for (Pair& pair : pairs_) move(pair);
  for (Pair& pair : pairs_) {
    if ((pair.broken || (pair.edge.end_sent && pair.upstream.end_sent)) && servers_[pair.server].recorded)
      ended_.push_back(std::move(pair.record));
  }
  std::erase_if(pairs_, [](const Pair& pair) { return pair.broken || (pair.edge.end_sent && pair.upstream.end_sent); });
}

void RecordingProxy::accept_all() {
  for (std::size_t i = 0; i < servers_.size(); ++i) {
    while (Fd client = accept_from(servers_[i].listener.get())) accept(i, std::move(client));
  }
}

void RecordingProxy::accept(std::size_t server, Fd client) {
  Pair& pair = pairs_.emplace_back();
  pair.server = server;
  pair.record.source = servers_[server].name;
  auto upstream = servers_[server].connect();
  pair.edge.socket = std::move(client);
  pair.broken = !upstream;
  if (upstream) pair.upstream.socket = *std::move(upstream);
}

void RecordingProxy::move(Pair& pair) {
  bool alive = !pair.broken;
  alive = alive && read_from(pair, pair.edge, pair.upstream) && read_from(pair, pair.upstream, pair.edge);
  alive = alive && write_to(pair.upstream, pair.edge.ended) && write_to(pair.edge, pair.upstream.ended);
  pair.broken = !alive;
}

bool RecordingProxy::read_from(Pair& pair, Side& from, Side& to) {
  std::array<char, kPiece> buffer;
  while (!from.ended && to.pending.size() < kMostPending) {
    const ssize_t n = ::recv(from.socket.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    from.ended = n == 0;
    to.pending.append(buffer.data(), static_cast<std::size_t>(n));
    if (n == 0 || !servers_[pair.server].recorded) continue;
    last_moved_ = clock_.now();
    if (&from == &pair.edge) {
      pair.record.sent.append(buffer.data(), static_cast<std::size_t>(n));
      pair.record.arrivals.push_back({.at = last_moved_, .end = pair.record.sent.size()});
    } else {
      pair.record.received_bytes += static_cast<std::uint64_t>(n);
    }
  }
  return true;
}

bool RecordingProxy::write_to(Side& to, bool source_ended) {
  while (!to.pending.empty()) {
    const ssize_t n = ::send(to.socket.get(), to.pending.data(), to.pending.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    to.pending.erase(0, static_cast<std::size_t>(n));
  }
  if (source_ended && !std::exchange(to.end_sent, true)) ::shutdown(to.socket.get(), SHUT_WR);
  return true;
}

std::vector<Conversation> RecordingProxy::recorded() const {
  const MutexLock lock(mutex_);
  std::vector<Conversation> out = ended_;
  for (const Pair& pair : pairs_) {
    if (servers_[pair.server].recorded) out.push_back(pair.record);
  }
  return out;
}

TimePoint RecordingProxy::last_moved() const {
  const MutexLock lock(mutex_);
  return last_moved_;
}

}  // namespace celslm
