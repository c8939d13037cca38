// Who wants to know how a request was answered, even if the response comes later.
#pragma once

#include <functional>

#include "net/http_types.h"

namespace celslm {

// The same response; `seen` is called once with its status: now, or when a deferred one is sent.
HttpResponse observed(HttpResponse response, std::function<void(int status)> seen);

}  // namespace celslm
