#include "cli/serving.h"

#include <fmt/chrono.h>
#include <sys/stat.h>

#include <new>
#include <ostream>
#include <system_error>
#include <vector>

#include "cli/terminal/service_manager.h"
#include "core/file.h"
#include "core/version.h"
#include "net/access/key_ring.h"
#include "net/address.h"
#include "net/certificates.h"
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

void tell(const Environment& env, std::string_view state, spdlog::logger& log) {
  if (const Status told = tell_service_manager(env, state); !told) log.warn("the service manager: {}", told.error().message);
}

// What servers write, contexts' texts and KV among it, is their user's alone.
void write_private_files() {
  constexpr mode_t kOthers = 0077;
  ::umask(::umask(kOthers) | kOthers);
}

void warn_of_expiry(const HttpServerOptions& options, const Clock& clock, spdlog::logger& log) {
  constexpr auto kSoon = std::chrono::days(30);
  for (const std::string& file : {options.tls_certificate_file, options.client_authority_file}) {
    const auto pem = file.empty() ? Result<Bytes>() : read_file(file, kMaxCertificateBytes);
    const auto facts = pem ? certificate_facts(as_text(*pem)) : std::unexpected(pem.error());
    if (!facts || facts->ends > clock.wall() + kSoon) continue;
    log.warn("{}: the certificate of '{}' {} {:%F %T} UTC", file, facts->name,
             facts->ends < clock.wall() ? "has expired:" : "expires on",
             std::chrono::floor<std::chrono::seconds>(facts->ends));
  }
}

// On SIGHUP: what other programs have changed or moved away.
void open_again(const std::shared_ptr<KeyRing>& keys, const std::shared_ptr<AuditLog>& audit, spdlog::logger& log) {
  if (keys) {
    if (const Status read = keys->reload()) {
      log.info("{} keys in {}", keys->size(), keys->file().string());
    } else {
      log.error("the keys stay as they were: {}", read.error().message);
    }
  }
  if (!audit) return;
  if (const Status opened = audit->reopen(); !opened) log.error("the old file stays in use: {}", opened.error().message);
}

}  // namespace

Result<std::shared_ptr<AuditLog>> open_audit(const ListenOptions& listen, const std::string& node, const Clock& clock,
                                             const Log& log) {
  if (listen.audit_file.empty()) return std::shared_ptr<AuditLog>();
  return AuditLog::open(listen.audit_file, node, clock, log);
}

int run_server(Environment& env, const ListenOptions& listen, const std::function<Status(HttpServerOptions)>& run) {
  write_private_files();
  auto options = server_options(listen);
  if (!options && options.error().kind == ErrorKind::kInvalid) return misused(env, options.error().message);
  if (!options) return failed(env, options.error());
  if (!listen.keys_file.empty()) {
    auto keys = KeyRing::open(listen.keys_file, env.clock);
    if (!keys) return failed(env, keys.error());
    options->keys = *std::move(keys);
  }
  const Status status = without_exceptions([&] { return run(*std::move(options)); });
  return status ? kExitFine : failed(env, status.error());
}

Status serve_until_signal(Environment& env, const Served& served, const HttpServerOptions& options,
                          std::chrono::milliseconds grace, const Log& log) {
  HttpServerOptions complete = options;
  complete.open_paths.append_range(page_paths(served.page));
  CELSLM_TRY(const auto server, HttpServer::create(complete, log));
  served.add_routes(*server);
  log->info("celslm {}, up to {} open files", program_version(), raise_open_file_limit());
  if (!asks_who(options) && !is_loopback(options.host))
    log->warn("everybody who can reach {} may use this server; with --token-file only those who have the token",
              options.host);
  if (options.keys) log->info("{} keys in {}", options.keys->size(), options.keys->file().string());
  warn_of_expiry(options, env.clock, *log);
  env.signals.arm();
  if (options.keys || served.audit)
    env.signals.on_hangup([keys = options.keys, audit = served.audit, log] { open_again(keys, audit, *log); });
  CELSLM_CHECK_OK(server->start());
  served.started(server->url());
  env.out << "listening on " << server->url() << std::endl;
  tell(env, "READY=1\nSTATUS=listening on " + server->url(), *log);
  env.signals.wait();
  tell(env, "STOPPING=1", *log);
  log->info("stopping when running requests have finished; a second signal stops immediately");
  served.drain();
  server->stop(grace);
  return {};
}

}  // namespace celslm
