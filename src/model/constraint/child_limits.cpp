#include "model/constraint/child_limits.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "model/constraint/message.h"

namespace celslm {
namespace {

std::atomic<int> dying_words_socket{-1};  // a signal's handler has no other way to know it

// Async-signal-safe.
void end_with_a_message(int signal) {
  struct {
    MessageKind kind;
    std::uint32_t size;
  } message{signal == SIGPROF || signal == SIGXCPU ? MessageKind::kTooSlow : MessageKind::kCrashed, 0};
  (void)::send(dying_words_socket.load(), &message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT);
  ::_exit(1);
}

void handle_signals() {
  // A stack of its own: one that overflowed has no room left.
  static std::array<char, 65536> stack;
  const stack_t alternative{.ss_sp = stack.data(), .ss_flags = 0, .ss_size = stack.size()};
  ::sigaltstack(&alternative, nullptr);
  struct sigaction action{};
  action.sa_handler = end_with_a_message;
  action.sa_flags = SA_ONSTACK;
  for (const int signal : {SIGPROF, SIGXCPU, SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL})
    ::sigaction(signal, &action, nullptr);
}

void set_limit(__rlimit_resource what, rlim_t value) {
  const rlimit limit{.rlim_cur = value, .rlim_max = value};
  ::setrlimit(what, &limit);
}

std::uint64_t address_space() {
  std::array<char, 64> text{};
  const int fd = ::open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  const ssize_t n = fd < 0 ? -1 : ::read(fd, text.data(), text.size() - 1);
  ::close(fd);
  unsigned long pages = 0;
  if (n <= 0 || std::sscanf(text.data(), "%lu", &pages) != 1) return 0;
  return static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

void limit_this_process(int socket, const ChildLimits& limits) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  dying_words_socket = socket;
  handle_signals();
  const int oom = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  (void)!::write(oom, "1000", 4);
  ::close(oom);
  ::setpriority(PRIO_PROCESS, 0, 5);  // behind the engine's threads, whose time it would take
  set_limit(RLIMIT_AS, address_space() + limits.memory_bytes);
  set_limit(RLIMIT_CPU, static_cast<rlim_t>(limits.all_time.count()));
  set_limit(RLIMIT_CORE, 0);
  set_limit(RLIMIT_FSIZE, 64U << 10);  // of the error text in memory
  set_limit(RLIMIT_NPROC, 0);
  set_limit(RLIMIT_NOFILE, 0);  // what is open stays open
}

void start_step_timer(const ChildLimits& limits) {
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(limits.step_time).count();
  const itimerval once{.it_interval = {}, .it_value = {.tv_sec = us / 1'000'000, .tv_usec = us % 1'000'000}};
  ::setitimer(ITIMER_PROF, &once, nullptr);
}

void stop_step_timer() {
  const itimerval none{};
  ::setitimer(ITIMER_PROF, &none, nullptr);
}

}  // namespace celslm
