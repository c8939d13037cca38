// A body that is written by blocking calls (HttpResponse::stream) as one that is pushed.
#pragma once

#include <functional>
#include <memory>

#include "core/log.h"
#include "net/http_types.h"

namespace celslm {

// The thread that starts it runs `stream` to its end, waiting whenever there is no room.
std::function<void(std::shared_ptr<BodyWriter>)> pushed_from(std::function<bool(const BodySink&)> stream, Log log);

}  // namespace celslm
