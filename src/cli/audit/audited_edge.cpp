#include "cli/audit/audited_edge.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "cli/audit/isolation.h"
#include "cli/audit/recording_proxy.h"
#include "core/json.h"
#include "core/mutex.h"
#include "net/http_client.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr int kEdgePort = 8080;  // in the edge's own network, where all ports are free
constexpr int kFirstProxyPort = 8081;
constexpr int kSockets = 200;   // connections to the edge that the audit may make
constexpr auto kQuiet = 250ms;  // without a byte: what a question causes has been sent
constexpr auto kLongestWait = 120s;
constexpr auto kConnectTime = 3s;

// A connection by a socket of the edge's network.
Result<Fd> connect_loopback(Fd socket, int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return socket;
  if (errno != EINPROGRESS || wait_for(socket.get(), POLLOUT, std::chrono::steady_clock::now() + kConnectTime) == 0)
    return fail(ErrorKind::kUnavailable, "cannot connect to the edge");
  return socket;
}

// The sockets for connections to the edge, each once. Thread-safe.
class SocketSupply {
 public:
  explicit SocketSupply(std::vector<Fd> sockets) : sockets_(std::move(sockets)) {}
  Result<Fd> connect() CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    if (sockets_.empty()) return fail(ErrorKind::kOverloaded, "the audit has made {} connections to the edge", kSockets);
    Fd socket = std::move(sockets_.back());
    sockets_.pop_back();
    return connect_loopback(std::move(socket), kEdgePort);
  }

 private:
  Mutex mutex_;
  std::vector<Fd> sockets_ CELSLM_GUARDED_BY(mutex_);
};

// What the answer reports of the way that it took.
std::string chosen_in(const HttpAnswer& answer) {
  const auto body = parse_object(as_text(answer.body));
  if (!body || !body->contains("x_celslm")) return "";
  const json& extension = (*body)["x_celslm"];
  json out = json::object();
  for (const char* field : {"policy", "routing", "answered_by"}) {
    if (extension.contains(field)) out[field] = extension[field];
  }
  return out.empty() ? "" : dump_json(out);
}

class EdgeRun {
 public:
  EdgeRun(const EdgeAudit& audit, const std::filesystem::path& folder) : audit_(audit), folder_(folder) {}

  Result<AuditedRun> run(AuditScript script) {
    CELSLM_CHECK_OK(start());
    CELSLM_CHECK_OK(wait_for_contexts());
    out_.script = script.name;
    CELSLM_TRY(const AuditedQuestion warm_up, ask(script.warm_up));
    for (const AuditQuestion& question : script.questions) {
      CELSLM_TRY(out_.questions.emplace_back(), ask(question));
    }
    CELSLM_CHECK_OK(stop());
    divide_requests();
    out_.secrets = std::move(script.secrets);
    return std::move(out_);
  }

 private:
  Status start() {
    std::error_code error;
    std::filesystem::create_directories(folder_, error);
    if (error) return fail(ErrorKind::kIo, "{}: cannot create: {}", folder_.string(), error.message());
    NetworkPlan plan{.isolated = audit_.isolated, .n_sockets = kSockets};
    std::vector<Fd> listeners;
    std::vector<int> ports;
    for (std::size_t i = 0; i < audit_.servers.size(); ++i) {
      if (!audit_.isolated) {
        CELSLM_TRY(listeners.emplace_back(), listen_on("127.0.0.1", 0, 128));
      }
      ports.push_back(audit_.isolated ? kFirstProxyPort + static_cast<int>(i) : local_port(listeners.back()));
    }
    if (audit_.isolated) plan.listener_ports = ports;
    auto started = start_program(command(ports), log_file(), plan);
    if (!started) return wrap(std::move(started).error(), "the edge cannot be started");
    program_.emplace(std::move(started->program));
    packets_ = std::move(started->network.packets);
    if (audit_.isolated) listeners = std::move(started->network.listeners);
    CELSLM_TRY(url_,
               program_->wait_listening().or_else([&](Error e) { return Result<std::string>(with_log(std::move(e))); }));
    return start_proxy(std::move(listeners), ports, std::move(started->network.sockets));
  }

  std::vector<std::string> command(const std::vector<int>& ports) const {
    std::vector<std::string> out{audit_.program, "edge",
                                 "--host",       "127.0.0.1",
                                 "--data",       (folder_ / "data").string(),
                                 "--port",       std::to_string(audit_.isolated ? kEdgePort : 0)};
    for (std::size_t i = 0; i < ports.size(); ++i) {
      out.emplace_back(i == 0 ? "--cloud" : "--peer");
      out.push_back(fmt::format("http://127.0.0.1:{}", ports[i]));
    }
    out.insert(out.end(), audit_.edge_flags.begin(), audit_.edge_flags.end());
    return out;
  }

  Status start_proxy(std::vector<Fd> listeners, const std::vector<int>& ports, std::vector<Fd> sockets) {
    std::vector<ProxiedServer> servers;
    for (std::size_t i = 0; i < listeners.size(); ++i) {
      const AuditedServer& server = audit_.servers[i];
      out_.authorities[fmt::format("127.0.0.1:{}", ports[i])] = "{" + server.name + "}";
      servers.push_back({.name = server.name, .listener = std::move(listeners[i]), .connect = [&server] {
                           return connect_to(server.host, server.port, kConnectTime);
                         }});
    }
    CELSLM_TRY(Fd entry, listen_on("127.0.0.1", 0, 128));
    const std::string entry_url = fmt::format("http://127.0.0.1:{}", local_port(entry));
    if (audit_.isolated) {
      auto supply = std::make_shared<SocketSupply>(std::move(sockets));
      servers.push_back({.name = "edge",
                         .listener = std::move(entry),
                         .connect = [supply] { return supply->connect(); },
                         .recorded = false});
      url_ = entry_url;
    }
    CELSLM_TRY(proxy_, RecordingProxy::start(std::move(servers), *audit_.clock));
    CELSLM_TRY(client_, make_http_client({.base_url = url_}));
    return {};
  }

  Status wait_for_contexts() {
    const TimePoint until = audit_.clock->now() + kLongestWait;
    while (audit_.clock->now() < until) {
      const auto answer = client_->call({.path = "/v1/contexts"});
      const std::string_view list = answer ? as_text(answer->body) : std::string_view();
      if (std::ranges::all_of(audit_.contexts, [&](const std::string& handle) { return list.contains(handle); })) return {};
      wait_for(-1, 0, std::chrono::steady_clock::now() + 50ms);
    }
    return with_log({ErrorKind::kUnavailable, "the edge has not learned of the contexts from its cloud"});
  }

  Result<AuditedQuestion> ask(const AuditQuestion& question) {
    AuditedQuestion out{.about = question.about, .user_bytes = question.user_bytes, .asked = audit_.clock->now()};
    auto answer = client_->call({.method = "POST",
                                 .path = question.path,
                                 .body = question.body,
                                 .timeout = kLongestWait,
                                 .stall_timeout = kLongestWait});
    if (!answer) return with_log(std::move(answer).error());
    out.answered = audit_.clock->now();
    out.status = answer->status;
    out.chosen = chosen_in(*answer);
    if (answer->status != 200 && !question.may_be_refused)
      return with_log({ErrorKind::kUnavailable, fmt::format("the question '{}' was answered with {}: {}", question.about,
                                                            answer->status, as_text(answer->body).substr(0, 300))});
    settle();
    return out;
  }

  void settle() {
    const TimePoint until = audit_.clock->now() + kLongestWait;
    const TimePoint begin = audit_.clock->now();
    while (audit_.clock->now() < until && audit_.clock->now() < std::max(begin, proxy_->last_moved()) + kQuiet)
      wait_for(-1, 0, std::chrono::steady_clock::now() + 20ms);
  }

  Status stop() {
    client_.reset();
    program_.reset();
    out_.conversations = proxy_->recorded();
    proxy_.reset();
    if (!audit_.isolated) return {};
    CELSLM_TRY(std::vector<Attempt> attempts, read_attempts(packets_));
    const int last_port = kFirstProxyPort + static_cast<int>(audit_.servers.size()) - 1;
    std::erase_if(attempts, [&](const Attempt& a) {
      return a.protocol == "TCP" && a.address == "127.0.0.1" && a.port >= kEdgePort && a.port <= last_port;
    });
    out_.elsewhere = std::move(attempts);
    return {};
  }

  // Each request belongs to the last question that was asked before it.
  void divide_requests() {
    for (SentRequest& request : requests_in(out_.conversations)) {
      const auto next = std::ranges::upper_bound(out_.questions, request.at, {}, &AuditedQuestion::asked);
      (next == out_.questions.begin() ? out_.at_start : std::prev(next)->sent).push_back(std::move(request));
    }
  }

  std::string log_file() const { return (folder_ / "edge.log").string(); }
  std::unexpected<Error> with_log(Error error) const {
    error.message += fmt::format(" (its log: {})", log_file());
    return std::unexpected(std::move(error));
  }

  const EdgeAudit& audit_;
  const std::filesystem::path folder_;
  AuditedRun out_;
  Fd packets_;
  std::string url_;
  std::unique_ptr<RecordingProxy> proxy_;
  std::optional<IsolatedProgram> program_;
  std::unique_ptr<HttpClient> client_;
};

}  // namespace

Result<AuditedServer> audited_server(const std::string& name, const std::string& url) {
  constexpr std::string_view kScheme = "http://";
  AuditedServer out{.name = name};
  const std::size_t colon = url.rfind(':');
  if (url.starts_with(kScheme) && colon > kScheme.size()) {
    out.host = url.substr(kScheme.size(), colon - kScheme.size());
    const std::string_view port = std::string_view(url).substr(colon + 1);
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), out.port);
    if (error == std::errc() && end == port.data() + port.size()) return out;
  }
  return fail(
      ErrorKind::kInvalid,
      "{}: expected http://HOST:PORT: the audit reads what the edge sends, so it must not be encrypted (take a cloud "
      "on this machine)",
      url);
}

Result<AuditedRun> audit_edge(const EdgeAudit& audit, AuditScript script, const std::filesystem::path& folder) {
  return EdgeRun(audit, folder).run(std::move(script));
}

}  // namespace celslm
