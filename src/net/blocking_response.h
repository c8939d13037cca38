// Deferred and pushed responses for a caller that waits for them: tests, and programs without a server.
#pragma once

#include "net/http_types.h"

namespace celslm {

// The response itself if it is neither deferred nor pushed. Else waits for the deferred one, and gives a pushed body as
// `stream`, which blocks until it has ended; `stream` may be called once. The producer learns that the client has gone from
// `request`: a deferred response by its disconnected(), a pushed one by its unreachable() and by the sink; it must stay
// valid until the end.
HttpResponse blocking(HttpResponse response, const HttpRequest& request);

}  // namespace celslm
