#include "serve/wire/audited.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "core/json.h"
#include "net/observed_response.h"

namespace celslm {
namespace {

std::string id_in(const HttpResponse& response) {
  if (response.status != 200) return "";
  const auto body = parse_object(response.body);
  const auto id = body ? JsonFields(*body).text("id") : std::unexpected(body.error());
  return id ? id->value_or("") : "";
}

}  // namespace

HttpHandler audited(std::shared_ptr<AuditLog> audit, std::string what, HttpHandler handler) {
  if (!audit) return handler;
  return [audit = std::move(audit), what = std::move(what), handler = std::move(handler)](const HttpRequest& request) {
    AuditEvent event{.what = what,
                     .context = request.parameter("context"),
                     .model = request.parameter("model"),
                     .codec = request.parameter("codec")};
    HttpResponse response = handler(request);
    if (event.context.empty()) event.context = id_in(response);
    Caller caller = request.caller;
    caller.use.reset();  // the record does not prolong the request
    return observed(std::move(response), [audit, event, caller = std::move(caller)](int status) mutable {
      event.status = status;
      audit->record(event, caller);
    });
  };
}

}  // namespace celslm
