#include "cli/audit/isolation.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "cli/audit/packet_watch.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;

constexpr int kMostPassed = 250;  // descriptors of one message: the kernel takes 253
constexpr auto kStartTime = 120s;
constexpr auto kStopTime = 10s;

// What the child reports: the step that failed, or none.
enum class Step : std::uint8_t { kReady, kNamespace, kIdentity, kLoopback, kRoutes, kSocket, kPackets };
struct Report {
  Step failed = Step::kReady;
  int code = 0;
};

const char* to_string(Step step) {
  switch (step) {
    case Step::kReady: return "";
    case Step::kNamespace: return "making a network namespace";
    case Step::kIdentity: return "mapping the user into the namespace";
    case Step::kLoopback: return "turning on the namespace's loopback interface";
    case Step::kRoutes: return "routing all addresses to the namespace's loopback interface";
    case Step::kSocket: return "making sockets";
    case Step::kPackets: return "watching packets";
  }
  return "";
}

// --- in the child, between fork and exec: system calls only, since other threads of the parent may have held locks

bool write_text(const char* path, const char* text) {
  const Fd file(::open(path, O_WRONLY | O_CLOEXEC));
  return file && ::write(file.get(), text, std::strlen(text)) > 0;
}

struct Identity {
  std::array<char, 64> uid_map{};
  std::array<char, 64> gid_map{};
};

// Without a user namespace where this user may, since in a chroot the system refuses user namespaces.
Step enter_namespace(const Identity& identity) {
  if (::unshare(CLONE_NEWNET) == 0) return Step::kReady;
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) return Step::kNamespace;
  write_text("/proc/self/setgroups", "deny");
  const bool mapped =
      write_text("/proc/self/uid_map", identity.uid_map.data()) && write_text("/proc/self/gid_map", identity.gid_map.data());
  return mapped ? Step::kReady : Step::kIdentity;
}

bool turn_on_loopback() {
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strncpy(request.ifr_name, "lo", sizeof request.ifr_name - 1);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  return socket && ::ioctl(socket.get(), SIOCSIFFLAGS, &request) == 0;
}

// Every address is this machine: attempts to reach one end at once, and pass the packet socket with their destination.
bool route_everything_here(int family) {
  const Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  struct {
    nlmsghdr head{};
    rtmsg route{};
    rtattr attribute{};
    int interface = 1;  // loopback is the first interface of every namespace
  } message;
  message.head = {
      .nlmsg_len = sizeof message, .nlmsg_type = RTM_NEWROUTE, .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK};
  message.route.rtm_family = static_cast<unsigned char>(family);
  message.route.rtm_table = RT_TABLE_MAIN;
  message.route.rtm_protocol = RTPROT_STATIC;
  message.route.rtm_scope = family == AF_INET ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE;
  message.route.rtm_type = RTN_LOCAL;
  message.attribute = {.rta_len = sizeof message.attribute + sizeof message.interface, .rta_type = RTA_OIF};
  if (!socket || ::send(socket.get(), &message, sizeof message, 0) != sizeof message) return false;
  struct {
    nlmsghdr head{};
    nlmsgerr error{};
    std::array<char, 256> rest{};
  } answer;
  const ssize_t n = ::recv(socket.get(), &answer, sizeof answer, 0);
  if (n < static_cast<ssize_t>(sizeof answer.head + sizeof answer.error.error) || answer.head.nlmsg_type != NLMSG_ERROR)
    return false;
  errno = -answer.error.error;
  return answer.error.error == 0;
}

int listener_on_loopback(int port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool listens = socket >= 0 && ::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
                       ::listen(socket, 128) == 0;
  return listens ? socket : -1;
}

struct Passed {
  std::array<int, kMostPassed> files{};
  std::size_t count = 0;
  bool add(int file) {
    if (file < 0 || count == files.size()) return false;
    files[count++] = file;
    return true;
  }
};

Step make_sockets(const NetworkPlan& plan, Passed& out) {
  for (const int port : plan.listener_ports) {
    if (!out.add(listener_on_loopback(port))) return Step::kSocket;
  }
  for (int i = 0; i < plan.n_sockets; ++i) {
    if (!out.add(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0))) return Step::kSocket;
  }
  return Step::kReady;
}

Step prepare(const NetworkPlan& plan, const Identity& identity, Passed& out) {
  if (!plan.isolated) return Step::kReady;
  if (const Step step = enter_namespace(identity); step != Step::kReady) return step;
  if (!turn_on_loopback()) return Step::kLoopback;
  if (!route_everything_here(AF_INET)) return Step::kRoutes;
  // Without IPv6 in the kernel there is nothing to route.
  if (!route_everything_here(AF_INET6) && errno != EAFNOSUPPORT && errno != EOPNOTSUPP) return Step::kRoutes;
  if (!out.add(open_packet_socket())) return Step::kPackets;
  return make_sockets(plan, out);
}

void send_report(int channel, const Report& report, const Passed& passed) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMostPassed)> control{};
  iovec body{.iov_base = const_cast<Report*>(&report), .iov_len = sizeof report};
  msghdr message{};
  message.msg_iov = &body;
  message.msg_iovlen = 1;
  if (report.failed == Step::kReady && passed.count > 0) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(sizeof(int) * passed.count);
    cmsghdr* const head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int) * passed.count);
    std::memcpy(CMSG_DATA(head), passed.files.data(), sizeof(int) * passed.count);
  }
  ::sendmsg(channel, &message, MSG_NOSIGNAL);
}

struct Child {
  const NetworkPlan& plan;
  const Identity& identity;
  const std::vector<char*>& arguments;
  int channel;
  int output;
  int log;
};

[[noreturn]] void run_child(const Child& child) {
  Passed passed;
  const Step failed = prepare(child.plan, child.identity, passed);
  send_report(child.channel, {.failed = failed, .code = errno}, passed);
  if (failed != Step::kReady) ::_exit(127);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // only now: a change of namespaces would undo it
  const int input = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::dup2(input, STDIN_FILENO);
  ::dup2(child.output, STDOUT_FILENO);
  ::dup2(child.log, STDERR_FILENO);
  ::close_range(STDERR_FILENO + 1, ~0U, 0);
  ::execv(child.arguments.front(), child.arguments.data());
  ::_exit(127);
}

// --- in the parent

Result<Passed> receive_report(int channel) {
  Report report;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMostPassed)> control{};
  iovec body{.iov_base = &report, .iov_len = sizeof report};
  msghdr message{};
  message.msg_iov = &body;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  if (::recvmsg(channel, &message, MSG_CMSG_CLOEXEC) != static_cast<ssize_t>(sizeof report))
    return fail(ErrorKind::kInternal, "the program ended before it was started");
  if (report.failed != Step::kReady)
    return fail(ErrorKind::kUnavailable, "{}: {}", to_string(report.failed), std::strerror(report.code));
  Passed out;
  const cmsghdr* const head = CMSG_FIRSTHDR(&message);
  if (head == nullptr) return out;
  out.count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
  std::memcpy(out.files.data(), CMSG_DATA(head), sizeof(int) * out.count);
  return out;
}

Network network_of(const NetworkPlan& plan, const Passed& passed) {
  Network out{.isolated = plan.isolated};
  if (!plan.isolated) return out;
  out.packets = Fd(passed.files[0]);
  for (std::size_t i = 1; i < passed.count; ++i)
    (i <= plan.listener_ports.size() ? out.listeners : out.sockets).emplace_back(passed.files[i]);
  return out;
}

Identity identity_of_this_user() {
  Identity out;
  fmt::format_to_n(out.uid_map.data(), out.uid_map.size() - 1, "{0} {0} 1", ::geteuid());
  fmt::format_to_n(out.gid_map.data(), out.gid_map.size() - 1, "{0} {0} 1", ::getegid());
  return out;
}

}  // namespace

Result<StartedProgram> start_program(const std::vector<std::string>& command, const std::string& log_file,
                                     const NetworkPlan& plan) {
  std::array<int, 2> channel{};
  std::array<int, 2> output{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel.data()) != 0)
    return fail(ErrorKind::kIo, "cannot make a socket pair: {}", std::strerror(errno));
  Fd ours(channel[0]);
  Fd theirs(channel[1]);
  if (::pipe2(output.data(), O_CLOEXEC) != 0) return fail(ErrorKind::kIo, "cannot make a pipe: {}", std::strerror(errno));
  Fd read_end(output[0]);
  const Fd write_end(output[1]);
  const Fd log(::open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log) return fail(ErrorKind::kIo, "{}: cannot write: {}", log_file, std::strerror(errno));
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const Identity identity = identity_of_this_user();

  const pid_t pid = ::fork();
  if (pid < 0) return fail(ErrorKind::kOverloaded, "cannot start another process: {}", std::strerror(errno));
  if (pid == 0) run_child({plan, identity, arguments, theirs.get(), write_end.get(), log.get()});
  IsolatedProgram program(pid, std::move(read_end));
  theirs.reset();
  CELSLM_TRY(const Passed passed, receive_report(ours.get()));
  return StartedProgram{.program = std::move(program), .network = network_of(plan, passed)};
}

Result<std::string> IsolatedProgram::wait_listening() {
  constexpr std::string_view kBefore = "listening on ";
  const auto deadline = std::chrono::steady_clock::now() + kStartTime;
  std::string text;
  std::array<char, 4096> buffer;
  while (wait_for(output_.get(), POLLIN, deadline) != 0) {
    const ssize_t n = ::read(output_.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail(ErrorKind::kUnavailable, "the program ended before it was listening");
    text.append(buffer.data(), static_cast<std::size_t>(n));
    const std::size_t at = text.find(kBefore);
    const std::size_t end = at == std::string::npos ? at : text.find('\n', at);
    if (end != std::string::npos) return text.substr(at + kBefore.size(), end - at - kBefore.size());
  }
  return fail(ErrorKind::kUnavailable, "the program was not listening within {} s", kStartTime.count());
}

void IsolatedProgram::stop() {
  const pid_t pid = std::exchange(pid_, 0);
  if (pid == 0) return;
  ::kill(pid, SIGTERM);
  const auto deadline = std::chrono::steady_clock::now() + kStopTime;
  // Its output ends with it, if it has no child that holds it.
  while (::waitpid(pid, nullptr, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > deadline) ::kill(pid, SIGKILL);
    wait_for(-1, 0, std::chrono::steady_clock::now() + 10ms);
  }
}

}  // namespace celslm
