// What to register as contexts, found by comparing the system messages of example requests.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace celslm {

// The system messages of the chat requests in a file, plain (plain_context_text()): a request as JSON, a list of them, or
// one on each line. A request without a system message counts as an empty one. kInvalid for anything else.
Result<std::vector<std::string>> system_messages_in(std::string_view file);

// A line that is not the same in all requests of a group.
struct VolatileLine {
  std::size_t number = 0;  // in the first message, from 1
  std::string example;     // its text there
  std::size_t shared_bytes_behind = 0;
};

// Requests that mostly have the same lines.
struct ContextAdvice {
  std::size_t n_requests = 0;
  std::string text;                  // to register: the lines that all of them have
  std::size_t leading_bytes = 0;     // of it, those that all messages begin with already
  std::vector<VolatileLine> moving;  // lines that have to move behind the shared ones for all of it to be used
  std::size_t n_volatile = 0;        // lines of the first message that are not shared, these included
};

// Groups with less shared text than is worth registering are left out. The largest gain first.
std::vector<ContextAdvice> advise_contexts(const std::vector<std::string>& system_messages);

}  // namespace celslm
