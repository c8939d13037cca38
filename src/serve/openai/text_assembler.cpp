#include <algorithm>
#include <optional>

#include "core/utf8.h"
#include "serve/openai/openai.h"

namespace celslm {
namespace {

struct Match {
  std::size_t begin = 0;
  std::size_t end = 0;
};

// The stop string that is complete first; of those that end together, the longest. Generation token by token could not
// tell any other way, so the answer does not depend on how the text was cut into pieces.
std::optional<Match> first_stop(std::string_view text, const std::vector<std::string>& stops) {
  std::optional<Match> best;
  for (const std::string& stop : stops) {
    const std::size_t begin = text.find(stop);
    if (begin == std::string_view::npos) continue;
    const Match match{.begin = begin, .end = begin + stop.size()};
    if (!best || match.end < best->end || (match.end == best->end && match.begin < best->begin)) best = match;
  }
  return best;
}

// Bytes at the end of the text that may be the beginning of a stop string.
std::size_t stop_tail(std::string_view text, const std::vector<std::string>& stops) {
  std::size_t longest = 0;
  for (const std::string& stop : stops) {
    for (std::size_t n = std::min(text.size(), stop.size() - 1); n > longest; --n) {
      if (text.ends_with(std::string_view(stop).substr(0, n))) longest = n;
    }
  }
  return longest;
}

}  // namespace

TextAssembler::TextAssembler(std::vector<std::string> stop) : stop_(std::move(stop)) {
  std::erase(stop_, "");  // an empty string would match before the first token
}

std::string TextAssembler::add(std::string_view piece) {
  if (stopped_) return {};
  held_ += piece;
  std::size_t certain = 0;
  if (const auto match = first_stop(held_, stop_)) {
    stopped_ = true;
    certain = match->begin;
  } else {
    certain = held_.size() - std::max(stop_tail(held_, stop_), incomplete_utf8_tail(held_));
  }
  certain_bytes_ += certain;
  std::string out = repaired_utf8(std::string_view(held_).substr(0, certain));
  held_.erase(0, stopped_ ? held_.size() : certain);
  return out;
}

std::string TextAssembler::flush() {
  const std::string rest = std::exchange(held_, {});
  return repaired_utf8(rest);
}

}  // namespace celslm
