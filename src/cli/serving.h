// What cloud and edge have in common: serving until a signal asks to stop.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "cli/listen_options.h"
#include "cli/terminal/environment.h"
#include "core/log.h"
#include "core/result.h"
#include "net/access/audit_log.h"
#include "net/http_server.h"
#include "serve/page/page.h"

namespace celslm {

// Checks `listen`, runs, and returns the exit code: kExitUsage for options that contradict each other.
int run_server(Environment& env, const ListenOptions& listen, const std::function<Status(HttpServerOptions)>& run);

// The service behind a server.
struct Served {
  PageOf page;                      // which it adds with its routes
  std::shared_ptr<AuditLog> audit;  // or null
  std::function<void(HttpServer&)> add_routes;
  std::function<void(const std::string& url)> started = [](const std::string&) {};  // called when requests are accepted
  std::function<void()> drain;  // refuses new requests and waits for those that run; called before the server stops
};

// The audit log that was asked for; null if none was. node: AuditLog::open()'s.
Result<std::shared_ptr<AuditLog>> open_audit(const ListenOptions& listen, const std::string& node, const Clock& clock,
                                             const Log& log);

// Prints "listening on URL" when ready and serves until a signal comes; SIGHUP lets keys and audit log be opened again.
// `grace`: for answers under way at the end.
Status serve_until_signal(Environment& env, const Served& served, const HttpServerOptions& options,
                          std::chrono::milliseconds grace, const Log& log);

}  // namespace celslm
