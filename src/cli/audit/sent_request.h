// What was sent over the connections of an edge, as requests.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/clock.h"

namespace celslm {

// One connection as its recorder saw it.
struct Conversation {
  std::string source;  // whom it was for: "cloud", "peer 1"
  struct Arrival {
    TimePoint at;
    std::size_t end = 0;  // of `sent`, after it
  };
  std::vector<Arrival> arrivals;
  std::string sent;                  // by the edge
  std::uint64_t received_bytes = 0;  // by the edge
};

struct SentRequest {
  std::string source;
  TimePoint at;  // of its first byte
  std::string method;
  std::string target;
  std::vector<std::pair<std::string, std::string>> headers;  // as sent, in their order
  std::string body;
  std::size_t bytes = 0;  // head and body

  const std::string* header(std::string_view lower_case_name) const;
};

// The requests of all connections, earliest first. Bytes that are no HTTP request become one with an empty method, whose
// body they are.
std::vector<SentRequest> requests_in(const std::vector<Conversation>& conversations);

std::string lower_case(std::string_view text);

}  // namespace celslm
