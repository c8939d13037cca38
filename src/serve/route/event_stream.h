// A stream of server-sent events as an HTTP response.
#pragma once

#include <functional>
#include <memory>

#include "net/http_types.h"

namespace celslm {

// Its events are pushed by `begin`.
HttpResponse event_stream(std::function<void(std::shared_ptr<BodyWriter>)> begin);

}  // namespace celslm
