#include "net/http_server.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <deque>
#include <system_error>
#include <thread>
#include <vector>

#include "core/mutex.h"
#include "net/connection_table.h"
#include "net/cors.h"
#include "net/http_limits.h"
#include "net/http_session.h"
#include "net/socket.h"
#include "net/tls.h"

namespace celslm {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// One thread accepts connections; n_threads + kReserveThreads threads serve one connection each.
class Server final : public HttpServer {
 public:
  Server(const HttpServerOptions& options, std::unique_ptr<TlsContext> tls, Log log)
      : context_{.options = options,
                 .router = {},
                 .make_error = default_error,
                 .token_hash = hash_of(options.bearer_token),
                 .table = ConnectionTable(options.n_threads),
                 .log = std::move(log)},
        tls_(std::move(tls)) {}
  ~Server() override { stop(milliseconds(0)); }

  void route(std::string_view method, std::string_view pattern, HttpHandler handler) override {
    context_.router.add(method, pattern, std::move(handler));
  }
  void on_error(ErrorMaker make) override { context_.make_error = std::move(make); }
  Status start() override;
  int port() const override { return port_; }
  std::string url() const override;
  void stop(milliseconds grace) override;

 private:
  void accept_loop();
  void enqueue(Fd socket);
  void work();
  std::size_t capacity() const { return static_cast<std::size_t>(context_.options.n_threads + kReserveThreads); }

  SessionContext context_;
  const std::unique_ptr<TlsContext> tls_;
  Fd listener_;
  int port_ = 0;
  Wakeup wakeup_;

  Mutex stop_mutex_;  // one stop() at a time
  std::thread acceptor_ CELSLM_GUARDED_BY(stop_mutex_);
  std::vector<std::thread> workers_ CELSLM_GUARDED_BY(stop_mutex_);

  Mutex mutex_ CELSLM_ACQUIRED_AFTER(stop_mutex_);
  ConditionVariable arrived_;
  std::deque<Fd> waiting_ CELSLM_GUARDED_BY(mutex_);
  std::size_t serving_ CELSLM_GUARDED_BY(mutex_) = 0;
  bool stopping_ CELSLM_GUARDED_BY(mutex_) = false;
};

Status Server::start() {
  CELSLM_TRY(listener_, listen_on(context_.options.host, context_.options.port, kListenBacklog));
  port_ = local_port(listener_);
  const MutexLock lock(stop_mutex_);
  try {
    for (std::size_t i = 0; i < capacity(); ++i) workers_.emplace_back([this] { work(); });
    acceptor_ = std::thread([this] { accept_loop(); });
  } catch (const std::system_error& e) {
    return fail(ErrorKind::kOverloaded, "cannot start {} threads: {}: configure fewer", capacity(), e.what());
  }
  return {};
}

std::string Server::url() const {
  std::string host = context_.options.host;
  if (host.empty() || host == "0.0.0.0") host = "127.0.0.1";
  if (host == "::") host = "::1";
  if (host.contains(':') && !host.starts_with('[')) host = "[" + host + "]";
  return fmt::format("{}://{}:{}", tls_ ? "https" : "http", host, port_);
}

void Server::accept_loop() {
  while (true) {
    std::array<pollfd, 2> entries{pollfd{.fd = listener_.get(), .events = POLLIN, .revents = 0},
                                  pollfd{.fd = wakeup_.fd(), .events = POLLIN, .revents = 0}};
    ::poll(entries.data(), entries.size(), -1);
    if (entries[1].revents != 0) return;
    Fd socket = accept_from(listener_);
    if (socket) {
      enqueue(std::move(socket));
    } else if (errno == EMFILE || errno == ENFILE) {
      // The connection stays in the backlog; polling again immediately would spin until a descriptor is free.
      context_.table.evict_one();
      if (wait_for(wakeup_.fd(), POLLIN, steady_clock::now() + milliseconds(20)) != 0) return;
    }
  }
}

void Server::enqueue(Fd socket) {
  MutexLock lock(mutex_);
  if (serving_ + waiting_.size() >= capacity()) {
    lock.unlock();
    if (!context_.table.evict_one()) {
      context_.log->warn("all {} connections are in use: refused another one", capacity());
      const std::string refusal = closing_response(context_.make_error, 503);
      if (!tls_) ::send(socket.get(), refusal.data(), refusal.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      return;
    }
    lock.lock();
  }
  waiting_.push_back(std::move(socket));
  arrived_.notify_one();
}

void Server::work() {
  HttpSession session(context_);
  MutexLock lock(mutex_);
  while (true) {
    arrived_.wait(mutex_, [&]() CELSLM_REQUIRES(mutex_) { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    Fd socket = std::move(waiting_.front());
    waiting_.pop_front();
    ++serving_;
    lock.unlock();
    {
      auto tls = tls_ ? tls_->accept(socket.get()) : nullptr;
      if (tls || !tls_) {
        Connection connection(std::move(socket), std::move(tls), context_.options.read_timeout,
                              context_.options.write_timeout);
        session.serve(connection);
      }
    }
    lock.lock();
    --serving_;
  }
}

void Server::stop(milliseconds grace) {
  const MutexLock one(stop_mutex_);
  if (workers_.empty()) return;
  wakeup_.notify();
  if (acceptor_.joinable()) acceptor_.join();
  listener_.reset();
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    waiting_.clear();
  }
  arrived_.notify_all();
  context_.table.drain();
  if (!context_.table.wait_until_idle(steady_clock::now() + grace)) {
    context_.log->warn("requests that are still running after {} ms are aborted", grace.count());
  }
  context_.table.abort_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
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
  std::unique_ptr<TlsContext> tls;
  if (!options.tls_certificate_file.empty()) {
    CELSLM_TRY(tls, TlsContext::create(options.tls_certificate_file, options.tls_key_file));
  }
  return std::make_unique<Server>(options, std::move(tls), log ? std::move(log) : null_log());
}

}  // namespace celslm
