#include "net/http_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <cctype>
#include <csignal>
#include <future>
#include <system_error>
#include <thread>
#include <utility>

#include "core/mutex.h"
#include "core/worker_pool.h"
#include "net/address.h"
#include "net/cors.h"
#include "net/http_limits.h"
#include "net/listener.h"
#include "net/server_core.h"
#include "net/socket.h"
#include "net/tls_acceptor.h"

namespace celslm {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

void run_io(ServerCore& core) {
  // OpenSSL writes without MSG_NOSIGNAL: a client that has closed is an error of one write, not the end of the process.
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
  core.io.run();
}

// One thread for all connections, and three pools: for handlers, for those of open paths, and for producers' callbacks,
// which blocking handlers wait for.
class Server final : public HttpServer {
 public:
  Server(const HttpServerOptions& options, std::unique_ptr<TlsAcceptor> tls, Log log);
  ~Server() override { stop(milliseconds(0)); }

  void route(std::string_view method, std::string_view pattern, HttpHandler handler) override {
    const bool for_nodes = std::ranges::any_of(core_->settings.options.node_paths,
                                               [&](const std::string& prefix) { return pattern.starts_with(prefix); });
    core_->settings.router.add(method, pattern, std::move(handler), for_nodes);
  }
  void on_error(ErrorMaker make) override { core_->settings.make_error = std::move(make); }
  Status start() override;
  int port() const override { return port_; }
  std::string url() const override;
  void stop(milliseconds grace) override;

 private:
  void on_io_thread(const std::function<void()>& task);  // and waits for it
  void end_threads() CELSLM_REQUIRES(stop_mutex_);

  const std::shared_ptr<TlsAcceptor> tls_;  // of the I/O thread
  const std::shared_ptr<WorkerPool> handlers_;
  const std::shared_ptr<WorkerPool> open_handlers_;
  const std::shared_ptr<WorkerPool> callbacks_ = std::make_shared<WorkerPool>(0);
  const std::shared_ptr<ServerCore> core_;
  std::shared_ptr<Listener> listener_;
  int port_ = 0;

  Mutex stop_mutex_;  // one stop() at a time
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::thread io_thread_ CELSLM_GUARDED_BY(stop_mutex_);
};

Server::Server(const HttpServerOptions& options, std::unique_ptr<TlsAcceptor> tls, Log log)
    : tls_(std::move(tls)),
      handlers_(std::make_shared<WorkerPool>(options.max_queued)),
      open_handlers_(std::make_shared<WorkerPool>(options.max_queued)),
      core_(std::make_shared<ServerCore>(ServerSettings{
          .options = options,
          .router = {},
          .token_hash = hash_of(options.bearer_token),
          .refusals = std::make_shared<RefusalLog>(log),
          .cross_origin = CrossOrigin(options.allowed_origins, !asks_who(options) && is_loopback(options.host)),
          .log = std::move(log)})),
      work_(boost::asio::make_work_guard(core_->io)) {
  core_->run_handler = [handlers = handlers_, open = open_handlers_](bool is_open, std::function<void()> task) {
    return (is_open ? open : handlers)->try_run(std::move(task));
  };
  core_->run_soon = [callbacks = callbacks_](std::function<void()> task) { callbacks->run(std::move(task)); };
}

Status Server::start() {
  const HttpServerOptions& options = core_->settings.options;
  CELSLM_TRY(Fd socket, listen_on(options.host, options.port, kListenBacklog));
  port_ = local_port(socket);
  const MutexLock lock(stop_mutex_);
  CELSLM_CHECK_OK(handlers_->start(options.n_threads));
  CELSLM_CHECK_OK(open_handlers_->start(kOpenPathThreads));
  CELSLM_CHECK_OK(callbacks_->start(kCallbackThreads));
  listener_ = std::make_shared<Listener>(core_, std::move(socket), tls_);
  try {
    io_thread_ = std::thread([core = core_] { run_io(*core); });
  } catch (const std::system_error& e) {
    return fail(ErrorKind::kOverloaded, "cannot start a thread: {}", e.what());
  }
  boost::asio::post(core_->io, [listener = listener_] { listener->accept(); });
  return {};
}

std::string Server::url() const {
  std::string host = core_->settings.options.host;
  if (host.empty()) host = "0.0.0.0";
  if (host.contains(':') && !host.starts_with('[')) host = "[" + host + "]";
  return fmt::format("{}://{}:{}", tls_ ? "https" : "http", host, port_);
}

void Server::on_io_thread(const std::function<void()>& task) {
  std::promise<void> done;
  boost::asio::post(core_->io, [&] {
    task();
    done.set_value();
  });
  done.get_future().wait();
}

void Server::stop(milliseconds grace) {
  const MutexLock one(stop_mutex_);
  if (!io_thread_.joinable()) return;
  const auto deadline = steady_clock::now() + grace;
  on_io_thread([this] {
    listener_->close();
    core_->table.drain();
  });
  if (!core_->table.wait_until_idle(deadline)) {
    core_->settings.log->warn("requests that are still running after {} ms are aborted", grace.count());
  }
  on_io_thread([this] { core_->table.abort_all(); });
  end_threads();
}

// Handlers may still post to the I/O thread, and wait for callbacks.
void Server::end_threads() {
  handlers_->finish();
  open_handlers_->finish();
  callbacks_->finish();
  work_.reset();
  io_thread_.join();
}

bool is_token(std::string_view text) {
  return std::ranges::all_of(text, [](unsigned char c) {
    return std::isalnum(c) != 0 || std::string_view("-._~+/=").contains(static_cast<char>(c));
  });
}

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::create(const HttpServerOptions& options, Log log) {
  if (options.n_threads < 1 || options.n_threads > kMaxThreads) {
    return fail(ErrorKind::kInvalid, "{} threads; expected 1 to {}", options.n_threads, kMaxThreads);
  }
  if (!is_token(options.bearer_token)) {
    return fail(ErrorKind::kInvalid, "the bearer token contains other characters than letters, digits and -._~+/=");
  }
  CELSLM_CHECK_OK(check_origins(options.allowed_origins));
  if (options.tls_certificate_file.empty() != options.tls_key_file.empty()) {
    return fail(ErrorKind::kInvalid, "TLS needs both a certificate and its key");
  }
  if (!options.client_authority_file.empty() && options.tls_certificate_file.empty())
    return fail(ErrorKind::kInvalid, "clients can show certificates over TLS only: it needs a certificate and its key");
  if (!log) log = null_log();
  std::unique_ptr<TlsAcceptor> tls;
  if (!options.tls_certificate_file.empty()) {
    CELSLM_TRY(tls, TlsAcceptor::create({.certificate = options.tls_certificate_file,
                                         .key = options.tls_key_file,
                                         .client_authority = options.client_authority_file},
                                        log));
  }
  return std::make_unique<Server>(options, std::move(tls), std::move(log));
}

}  // namespace celslm
