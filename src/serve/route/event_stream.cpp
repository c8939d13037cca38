#include "serve/route/event_stream.h"

#include <utility>

#include "serve/openai/openai.h"

namespace celslm {

HttpResponse event_stream(std::function<void(std::shared_ptr<BodyWriter>)> begin) {
  return {.content_type = "text/event-stream",
          .headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}},  // nginx would hold events back
          .pushed = std::move(begin),
          .filler = CompletionWriter::comment_event()};
}

}  // namespace celslm
