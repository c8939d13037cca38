// Requests that are recorded in the audit log.
#pragma once

#include <memory>
#include <string>

#include "net/access/audit_log.h"
#include "net/http_types.h"

namespace celslm {

// The handler, each of whose answers is recorded as `what`, with the context, model and codec in the path or, where the path
// has no context, with the "id" in the answer. The handler itself where there is no audit log.
HttpHandler audited(std::shared_ptr<AuditLog> audit, std::string what, HttpHandler handler);

}  // namespace celslm
