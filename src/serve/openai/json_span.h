// Finds where JSON ends while it comes byte by byte, without building it; for this folder's parsers of answers.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace celslm {

// Follows brackets and strings. What is between them may be anything: a model wrote it.
class JsonSpan {
 public:
  // depth: brackets already open.
  explicit JsonSpan(std::size_t depth = 0) : depth_(depth) {}

  // Whether this byte closed the outermost bracket. Nothing may follow it.
  bool add(char c) {
    if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
      }
      return false;
    }
    if (c == '"') in_string_ = true;
    if (c == '{' || c == '[') ++depth_;
    if ((c != '}' && c != ']') || depth_ == 0) return false;
    --depth_;
    return depth_ == 0;
  }

 private:
  std::size_t depth_;
  bool in_string_ = false;
  bool escaped_ = false;
};

// The beginning of a call: {"name": "f", "arguments": {   with "parameters" for "arguments" too, and possibly "type" or
// "id".
struct CallHead {
  enum class State {
    kMore,   // it may become one
    kOther,  // it is something else, or the arguments are no object
    kFound,
  };
  State state = State::kMore;
  std::string name;
  std::size_t arguments = 0;  // where they begin, with '{'
};

// text: from the opening bracket on.
CallHead read_call_head(std::string_view text);

}  // namespace celslm
