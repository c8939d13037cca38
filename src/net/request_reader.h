// Requests out of a connection's bytes, as they come: one head, its body, the next head. No sockets, no time.
//
// A head is read twice: by parse_request_head, which is stricter than Beast's parser, and by Beast's, which then reads the
// body. What the two see differently is refused, so that no proxy in front can be made to see other requests than we do.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "net/request_head.h"

namespace celslm {

// Not thread-safe. Usage: append() what has come; read_head() until it is kDone; begin_body(); read_body() until it is
// kDone; then read_head() again. After kRefused nothing else of the connection can be read.
class RequestReader {
 public:
  enum class Progress { kMore, kDone, kRefused };

  RequestReader();
  ~RequestReader();
  RequestReader(const RequestReader&) = delete;
  RequestReader& operator=(const RequestReader&) = delete;

  void append(std::string_view bytes) { input_.append(bytes); }
  std::size_t buffered() const { return input_.size(); }
  bool has_input() const;  // more than the empty lines that may stand before a request
  void release_memory();   // while nothing is buffered

  // Empty lines before it are skipped.
  Progress read_head();
  // Of the head that was read, once.
  RequestHead take_head() { return std::move(head_); }

  // max_bytes: larger bodies are refused with 413.
  Progress begin_body(std::size_t max_bytes);
  Progress read_body();
  std::size_t body_bytes() const;  // so far
  std::string take_body();

  int status() const { return status_; }  // of a refusal

 private:
  struct Body;
  Progress refuse(int status);

  std::string input_;        // what has not been read yet
  std::size_t seen_ = 0;     // of input_: no head ends before it
  std::size_t skipped_ = 0;  // bytes of empty lines before this head
  std::string head_bytes_;
  RequestHead head_;
  std::unique_ptr<Body> body_;
  int status_ = 0;
};

}  // namespace celslm
