#include "model/constraint/constraint_host.h"

#include <poll.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

namespace celslm {
namespace {

using namespace std::chrono_literals;

constexpr auto kStartPatience = 60s;  // a vocabulary loads in about a second
constexpr int kLookEveryMs = 250;     // for children beyond all limits

void set_patience(int socket, std::chrono::seconds time) {
  const timeval patience{.tv_sec = time.count(), .tv_usec = 0};
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
}

// With `control` at kControlDescriptor, nothing else open but the standard streams, and a session of its own: what a
// terminal sends to its foreground is not for it.
Result<pid_t> spawn(const std::vector<std::string>& command, int control) {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_adddup2(&files, control, kControlDescriptor);
  ::posix_spawn_file_actions_addclosefrom_np(&files, kControlDescriptor + 1);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  pid_t out = 0;
  const int error = ::posix_spawn(&out, command.front().c_str(), &files, &attributes, arguments.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&files);
  if (error == EAGAIN || error == ENOMEM)
    return fail(ErrorKind::kOverloaded, "no process for grammars can be started; try again later");
  if (error != 0) return fail(ErrorKind::kUnavailable, "the process for grammars does not start: error {}", error);
  return out;
}

}  // namespace

// A constraint as its owner holds it.
class ConstraintHost::Remote final : public Constraint {
 public:
  Remote(ConstraintHost& host, std::shared_ptr<ConstraintChannel> channel) : host_(host), channel_(std::move(channel)) {}
  ~Remote() override { host_.forget(channel_.get()); }

  void offer(Token token) override {
    channel_->ask({.kind = MessageKind::kOffer, .body = {reinterpret_cast<const char*>(&token), sizeof token}});
  }
  void begin(const std::string& text) override { channel_->ask({.kind = MessageKind::kBegin, .body = text}); }
  std::optional<Result<Verdict>> take_answer() override { return channel_->take_answer(); }
  void wait(Duration time) override { channel_->wait(time); }

 private:
  ConstraintHost& host_;
  const std::shared_ptr<ConstraintChannel> channel_;
};

ConstraintHost::ConstraintHost(ConstraintHostOptions options, const Clock& clock, Log log)
    : options_(std::move(options)),
      clock_(clock),
      log_(std::move(log)),
      poke_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      watcher_([this](const std::stop_token& stop) { run(stop); }) {}

ConstraintHost::~ConstraintHost() {
  watcher_.request_stop();
  poke();
  watcher_.join();
  const MutexLock lock(starting_);
  end_host();
}

Result<std::unique_ptr<Constraint>> ConstraintHost::make(const GrammarSpec& grammar, std::function<void()> answered) {
  CELSLM_CHECK_OK(take_place());
  const auto made = [&]() -> Result<std::shared_ptr<ConstraintChannel>> {
    CELSLM_TRY(auto channel, new_child());
    channel->ask({.kind = MessageKind::kCompile, .body = grammar.text});
    std::optional<Result<Verdict>> answer;
    while (!answer) {  // ends: a child that exceeds its limits is killed by look()
      channel->wait(std::chrono::milliseconds(kLookEveryMs));
      channel->look();
      answer = channel->take_answer();
    }
    if (!*answer) return std::unexpected(answer->error());
    return channel;
  }();
  if (!made) {
    leave_place();
    return std::unexpected(made.error());
  }
  watch(*made, std::move(answered));
  return std::make_unique<Remote>(*this, *made);
}

pid_t ConstraintHost::process() const {
  const MutexLock lock(starting_);
  return process_;
}

// --- the host's process -----------------------------------------------------------------------------------------------

// A host that does not answer has died since: another one is tried.
Result<std::shared_ptr<ConstraintChannel>> ConstraintHost::new_child() {
  const MutexLock lock(starting_);
  for (const bool last_try : {false, true}) {
    if (process_ == 0) CELSLM_CHECK_OK(start());
    const char request = 'c';
    const bool asked = ::send(control_.get(), &request, 1, MSG_NOSIGNAL) == 1;
    auto child =
        asked ? receive_descriptors(control_.get()) : fail(ErrorKind::kUnavailable, "the process for grammars has ended");
    if (child && child->first.get() >= 0) {
      return std::make_shared<ConstraintChannel>(std::move(child->first), std::move(child->second), clock_, options_.limits);
    }
    if (child) return fail(ErrorKind::kOverloaded, "no process for this grammar can be started; try again later");
    end_host();
    if (last_try) return std::unexpected(child.error());
  }
  std::unreachable();
}

Status ConstraintHost::start() {
  std::array<int, 2> ends{-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return fail(ErrorKind::kUnavailable, "no socket for the process for grammars: {}", errno);
  control_ = Descriptor(ends[0]);
  Descriptor theirs(ends[1]);
  set_patience(control_.get(), kStartPatience);
  CELSLM_TRY(process_, spawn(options_.command, theirs.get()));
  theirs = Descriptor();  // so that the host's end is noticed
  const auto ready = receive_message(control_.get());
  if (ready && ready->kind == MessageKind::kReady) {
    log_->info("process {} runs the grammars of answers", process_);
    return {};
  }
  end_host();
  return fail(ErrorKind::kUnavailable, "the process for grammars does not start: {}",
              ready ? ready->body : ready.error().message);
}

void ConstraintHost::end_host() {
  if (process_ == 0) return;
  control_ = Descriptor();
  ::kill(process_, SIGKILL);  // not reaped yet: the number is still its own
  ::waitpid(process_, nullptr, 0);
  process_ = 0;
}

// --- constraints in use -----------------------------------------------------------------------------------------------

Status ConstraintHost::take_place() {
  const MutexLock lock(mutex_);
  if (n_used_ >= options_.most)
    return fail(ErrorKind::kOverloaded, "{} answers with grammars are under way, the most there may be; try again later",
                n_used_);
  ++n_used_;
  return {};
}

void ConstraintHost::leave_place() {
  const MutexLock lock(mutex_);
  --n_used_;
}

void ConstraintHost::watch(const std::shared_ptr<ConstraintChannel>& channel, std::function<void()> answered) {
  {
    const MutexLock lock(mutex_);
    watched_.push_back({.channel = channel, .answered = std::move(answered)});
  }
  poke();
}

void ConstraintHost::forget(const ConstraintChannel* channel) {
  const MutexLock lock(mutex_);
  const MutexLock nobody_is_called(calling_);
  std::erase_if(watched_, [&](const Watched& watched) { return watched.channel.get() == channel; });
  --n_used_;
  poke();
}

void ConstraintHost::poke() const {
  const std::uint64_t one = 1;
  (void)!::write(poke_.get(), &one, sizeof one);
}

void ConstraintHost::run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    std::vector<std::shared_ptr<ConstraintChannel>> channels;
    {
      const MutexLock lock(mutex_);
      for (const Watched& watched : watched_) channels.push_back(watched.channel);
    }
    std::vector<pollfd> readable{{.fd = poke_.get(), .events = POLLIN, .revents = 0}};
    for (const auto& channel : channels) readable.push_back({.fd = channel->descriptor(), .events = POLLIN, .revents = 0});
    ::poll(readable.data(), readable.size(), channels.empty() ? -1 : kLookEveryMs);
    std::uint64_t pokes = 0;
    (void)!::read(poke_.get(), &pokes, sizeof pokes);
    for (const auto& channel : channels) {
      if (channel->look()) tell(channel.get());
    }
  }
}

// Whose answer it is may have gone meanwhile. The list is not locked while its owner is told: owners lock what they like.
void ConstraintHost::tell(const ConstraintChannel* channel) {
  MutexLock lock(mutex_);
  const auto found = std::ranges::find_if(watched_, [&](const Watched& w) { return w.channel.get() == channel; });
  if (found == watched_.end()) return;
  const MutexLock calling(calling_);
  const std::function<void()> answered = found->answered;
  lock.unlock();
  answered();
}

}  // namespace celslm
