#include "cli/terminal/signals.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>

namespace celslm {
namespace {

sigset_t watched() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGHUP);
  return set;
}

// Dies of the signal, so that the parent sees what happened.
[[noreturn]] void die_of(int signal) {
  std::signal(signal, SIG_DFL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  ::kill(::getpid(), signal);
  std::_Exit(128 + signal);
}

}  // namespace

SignalWatch::SignalWatch() {
  const sigset_t set = watched();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal_fd_ = ::signalfd(-1, &set, SFD_CLOEXEC);
  end_fd_ = ::eventfd(0, EFD_CLOEXEC);
  thread_ = std::thread([this] { watch(); });
}

SignalWatch::~SignalWatch() {
  const std::uint64_t one = 1;
  while (::write(end_fd_, &one, sizeof one) < 0 && errno == EINTR) {
  }
  thread_.join();
  ::close(signal_fd_);
  ::close(end_fd_);
}

void SignalWatch::watch() {
  std::array<pollfd, 2> fds{pollfd{signal_fd_, POLLIN, 0}, pollfd{end_fd_, POLLIN, 0}};
  while (true) {
    if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return;
    if (fds[1].revents != 0) return;
    signalfd_siginfo info{};
    if ((fds[0].revents & POLLIN) != 0 && ::read(signal_fd_, &info, sizeof info) == sizeof info) {
      take(static_cast<int>(info.ssi_signo));
    }
  }
}

void SignalWatch::take(int signal) {
  if (signal == SIGHUP) return hang_up();
  if (!armed_ || stop_.stop_requested()) die_of(signal);
  request_stop();
}

void SignalWatch::on_hangup(std::function<void()> call) {
  const MutexLock lock(mutex_);
  on_hangup_ = std::move(call);
}

void SignalWatch::hang_up() {
  std::function<void()> call;
  {
    const MutexLock lock(mutex_);
    call = on_hangup_;
  }
  if (!call) die_of(SIGHUP);
  call();
}

void SignalWatch::arm() {
  armed_ = true;
}

void SignalWatch::request_stop() {
  stop_.request_stop();
}

void SignalWatch::wait() {
  Mutex mutex;
  ConditionVariable stopped;
  const MutexLock lock(mutex);
  stopped.wait(mutex, stop(), [] { return false; });
}

}  // namespace celslm
