#include "cli/serving.h"

#include <sys/stat.h>

#include <new>
#include <ostream>
#include <system_error>
#include <vector>

#include "net/address.h"
#include "net/open_files.h"

namespace celslm {
namespace {

// Threads and memory that cannot be had while a server starts.
Status without_exceptions(const std::function<Status()>& run) {
  try {
    return run();
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kOverloaded, "no memory left to start: take a smaller model, or allow more ('ulimit -v')");
  } catch (const std::system_error& error) {
    return fail(ErrorKind::kOverloaded, "cannot start: {} (allow more threads: 'ulimit -u')", error.what());
  }
}

// What servers write, contexts' texts and KV among it, is their user's alone.
void write_private_files() {
  constexpr mode_t kOthers = 0077;
  ::umask(::umask(kOthers) | kOthers);
}

}  // namespace

int run_server(Environment& env, const ListenOptions& listen, const std::function<Status(HttpServerOptions)>& run) {
  write_private_files();
  auto options = server_options(listen);
  if (!options && options.error().kind == ErrorKind::kInvalid) return misused(env, options.error().message);
  if (!options) return failed(env, options.error());
  const Status status = without_exceptions([&] { return run(*std::move(options)); });
  return status ? kExitFine : failed(env, status.error());
}

Status serve_until_signal(Environment& env, const Served& served, const HttpServerOptions& options,
                          std::chrono::milliseconds grace, const Log& log) {
  HttpServerOptions complete = options;
  complete.open_paths.append_range(page_paths(served.page));
  CELSLM_TRY(const auto server, HttpServer::create(complete, log));
  served.add_routes(*server);
  log->info("up to {} open files", raise_open_file_limit());
  if (options.bearer_token.empty() && !is_loopback(options.host))
    log->warn("everybody who can reach {} may use this server; with --token-file only those who have the token",
              options.host);
  env.signals.arm();
  CELSLM_CHECK_OK(server->start());
  served.started();
  env.out << "listening on " << server->url() << std::endl;
  env.signals.wait();
  log->info("stopping when running requests have finished; a second signal stops immediately");
  served.drain();
  server->stop(grace);
  return {};
}

}  // namespace celslm
