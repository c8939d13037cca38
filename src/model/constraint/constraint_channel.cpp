#include "model/constraint/constraint_channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <utility>

namespace celslm {
namespace {

using namespace std::chrono_literals;

// By the clock on the wall, for a child that does not even get processor time.
constexpr int kWallFactor = 15;

Error error_of(const Message& message, const ChildLimits& limits, bool compiled) {
  switch (message.kind) {
    case MessageKind::kInvalid:
      return {ErrorKind::kInvalid,
              message.body.empty()
                  ? "the grammar does not parse; it must be GBNF with a rule named root"
                  : fmt::format("the grammar does not parse; it must be GBNF with a rule named root ({})", message.body)};
    case MessageKind::kTooSlow:
      return {
          ErrorKind::kInvalid,
          fmt::format("the grammar takes more than {} ms of processor time {}; use fewer optional and repeated parts within "
                      "each other",
                      limits.step_time.count(), compiled ? "for one token" : "to compile")};
    case MessageKind::kTooLarge:
      return {ErrorKind::kInvalid,
              fmt::format("the grammar takes more than {} MiB of memory; use fewer repetitions, optional and "
                          "empty parts",
                          limits.memory_bytes >> 20U)};
    default: return {ErrorKind::kInvalid, "the grammar makes libllama's engine for grammars fail; simplify it"};
  }
}

}  // namespace

ConstraintChannel::ConstraintChannel(Descriptor socket, Descriptor process, const Clock& clock, const ChildLimits& limits)
    : socket_(std::move(socket)), process_(std::move(process)), clock_(clock), limits_(limits) {
  const timeval patience{.tv_sec = 5, .tv_usec = 0};  // a child reads at once, or has been stopped
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

ConstraintChannel::~ConstraintChannel() {
  kill();
}

void ConstraintChannel::kill() const {
  ::syscall(SYS_pidfd_send_signal, process_.get(), SIGKILL, nullptr, 0);
}

void ConstraintChannel::ask(const Message& question) {
  const MutexLock lock(mutex_);
  asked_ = true;
  asked_at_ = clock_.now();
  answer_.reset();
  if (ended_) {
    answer_ = std::unexpected(*ended_);
  } else if (const Status sent = send_message(socket_.get(), question); !sent) {
    end(sent.error());
  }
}

std::optional<Result<Verdict>> ConstraintChannel::take_answer() {
  const MutexLock lock(mutex_);
  read();
  return std::exchange(answer_, std::nullopt);
}

void ConstraintChannel::wait(Duration time) {
  const TimePoint until = clock_.now() + time;
  // In slices: whoever watches may read the answer first, and then nothing wakes this thread.
  for (Duration slice = 100us;; slice = std::min<Duration>(2 * slice, 10ms)) {
    {
      const MutexLock lock(mutex_);
      read();
      if (answer_ || ended_) return;
    }
    const Duration left = until - clock_.now();
    if (left <= Duration::zero()) return;
    const timespec patience{.tv_sec = 0, .tv_nsec = std::min(left, slice).count()};
    pollfd readable{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    ::ppoll(&readable, 1, &patience, nullptr);
  }
}

int ConstraintChannel::descriptor() const {
  const MutexLock lock(mutex_);
  return ended_ ? -1 : socket_.get();
}

bool ConstraintChannel::look() {
  const MutexLock lock(mutex_);
  const bool had_one = answer_.has_value();
  read();
  if (asked_ && !answer_ && clock_.now() - asked_at_ > kWallFactor * limits_.step_time) {
    kill();
    end(error_of({.kind = MessageKind::kTooSlow}, limits_, compiled_));
  }
  return !had_one && answer_.has_value();
}

void ConstraintChannel::read() {
  if (answer_ || ended_) return;
  const auto message = reader_.read(socket_.get());
  if (!message) return end(message.error());
  if (!*message) return;
  if ((*message)->kind == MessageKind::kAccepted || (*message)->kind == MessageKind::kRejected) {
    const std::string& mask = (*message)->body;
    answer_ = Verdict{.accepted = (*message)->kind == MessageKind::kAccepted,
                      .allowed = TokenMask(std::vector<std::uint8_t>(mask.begin(), mask.end()))};
    compiled_ = true;
  } else {
    end(error_of(**message, limits_, compiled_));
  }
}

void ConstraintChannel::end(Error error) {
  if (asked_) answer_ = std::unexpected(error);
  ended_ = std::move(error);
}

}  // namespace celslm
