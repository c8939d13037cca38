// The events of another node's stream, on their way through this edge.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace celslm {

inline constexpr std::size_t kMaxEventBytes = 1U << 20;  // an event without an end would fill memory

// Cuts a stream into events, each with the empty line that ends it. Comments are dropped: the connection to the client has
// its own. Not thread-safe.
class EventSplitter {
 public:
  // The events that are complete now. kInvalid for one that is too long.
  Result<std::vector<std::string>> add(std::string_view piece);

 private:
  std::string rest_;
};

// What an event is to whoever passes it on.
enum class EventKind {
  kBefore,  // nothing of the answer's text yet
  kText,    // a part of the answer, or its end
  kError,   // the node's answer has failed
};
EventKind kind_of_event(std::string_view event);
// Whether nothing comes behind it.
bool is_last_event(std::string_view event);

// The answer or event with `notes` (an object) added to its "x_celslm"; as it was where it has none.
std::string with_notes(std::string event, const nlohmann::json& notes);
// The same for a complete answer. kInvalid if it is no answer.
Result<nlohmann::json> answer_with_notes(std::string_view body, const nlohmann::json& notes);

// How many tokens of text a complete answer reports in its "usage", which another node has written: 0 where that is no
// count, and not more than kMaxReportedTokens.
inline constexpr std::int64_t kMaxReportedTokens = 1 << 24;
std::int64_t answer_tokens(const nlohmann::json& answer);

}  // namespace celslm
