// The service manager that has started this process, where it wants to know when a server is ready (systemd's Type=notify).
#pragma once

#include <string_view>

#include "cli/terminal/environment.h"
#include "core/result.h"

namespace celslm {

// Sends `state`, e.g. "READY=1", to the socket that NOTIFY_SOCKET names: a path, or "@" and an abstract name. Does nothing
// without that variable. kUnavailable if nothing takes it there.
Status tell_service_manager(const Environment& env, std::string_view state);

}  // namespace celslm
