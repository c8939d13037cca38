#include "model/constraint/constraint_child.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>

#include "model/constraint/child_limits.h"
#include "model/constraint/grammar_matcher.h"
#include "model/constraint/message.h"

namespace celslm {
namespace {

// --- a child ----------------------------------------------------------------------------------------------------------

// libllama writes what is wrong with a grammar to standard error: here, into memory.
int catch_standard_error() {
  const int fd = ::memfd_create("stderr", MFD_CLOEXEC);
  ::dup2(fd, STDERR_FILENO);
  return fd;
}

// Its first line.
std::string caught_error(int fd) {
  std::array<char, 512> text{};
  const ssize_t n = ::pread(fd, text.data(), text.size() - 1, 0);
  std::string_view out(text.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
  out = out.substr(0, out.find('\n'));
  constexpr std::string_view kPrefix = "error parsing grammar: ";
  if (const std::size_t at = out.find(kPrefix); at != std::string_view::npos) out.remove_prefix(at + kPrefix.size());
  return std::string(out);
}

Message answer(GrammarMatcher& matcher, const Message& question) {
  bool accepted = false;
  if (question.kind == MessageKind::kOffer) {
    Token token = -1;
    std::memcpy(&token, question.body.data(), std::min(question.body.size(), sizeof token));
    accepted = matcher.offer(token);
  } else {
    accepted = matcher.offer(std::string_view(question.body));
  }
  if (accepted) return {.kind = MessageKind::kAccepted};
  if (question.kind != MessageKind::kOffer) return {.kind = MessageKind::kRejected};
  const TokenMask allowed = matcher.allowed();
  return {.kind = MessageKind::kRejected, .body = {allowed.bytes().begin(), allowed.bytes().end()}};
}

// Serves one grammar until the other side closes.
Status serve(int socket, int errors, const Text& text, const TokenPieces& pieces, const ChildLimits& limits) {
  CELSLM_TRY(const Message grammar, receive_message(socket));
  start_step_timer(limits);
  auto matcher = GrammarMatcher::create(text, pieces, grammar.body);
  stop_step_timer();
  if (!matcher) {
    std::string error = caught_error(errors);
    const bool no_memory = error.contains("bad_alloc");  // which libllama takes for a fault of the grammar
    return send_message(socket,
                        {.kind = no_memory ? MessageKind::kTooLarge : MessageKind::kInvalid, .body = std::move(error)});
  }
  CELSLM_CHECK_OK(send_message(socket, {.kind = MessageKind::kAccepted}));
  for (;;) {
    CELSLM_TRY(const Message question, receive_message(socket));
    start_step_timer(limits);
    const Message out = answer(*matcher, question);
    stop_step_timer();
    CELSLM_CHECK_OK(send_message(socket, out));
  }
}

[[noreturn]] void run_child(int socket, const Text& text, const TokenPieces& pieces, const ChildLimits& limits) {
  const int errors = catch_standard_error();
  limit_this_process(socket, limits);
  try {
    (void)serve(socket, errors, text, pieces, limits);
  } catch (const std::bad_alloc&) {
    (void)send_message(socket, {.kind = MessageKind::kTooLarge});
  } catch (const std::exception&) {
    (void)send_message(socket, {.kind = MessageKind::kCrashed});
  }
  ::_exit(0);
}

// --- the host ---------------------------------------------------------------------------------------------------------

Status fork_child(int control, const Text& text, const TokenPieces& pieces, const ChildLimits& limits) {
  std::array<int, 2> ends{-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return send_descriptors(control, -1, -1);
  Descriptor theirs(ends[0]);
  Descriptor childs(ends[1]);
  const pid_t pid = ::fork();
  if (pid == 0) {
    theirs = Descriptor();
    ::close(control);
    run_child(childs.release(), text, pieces, limits);
  }
  const Descriptor handle(pid < 0 ? -1 : static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  return send_descriptors(control, handle.get() < 0 ? -1 : theirs.get(), handle.get());
}

}  // namespace

int run_constraint_host(const std::filesystem::path& model, int control, const ChildLimits& limits) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) std::signal(signal, SIG_IGN);
  std::signal(SIGCHLD, SIG_IGN);          // children leave nothing behind
  ::setenv("GGML_NO_BACKTRACE", "1", 1);  // or an abort starts a debugger
  const auto text = Text::load(model);
  if (!text) {
    (void)send_message(control, {.kind = MessageKind::kFailed, .body = text.error().message});
    return 1;
  }
  const TokenPieces pieces(**text);
  if (!send_message(control, {.kind = MessageKind::kReady})) return 1;
  char request = 0;
  while (::recv(control, &request, 1, 0) == 1) {
    if (!fork_child(control, **text, pieces, limits)) return 1;
  }
  return 0;
}

}  // namespace celslm
