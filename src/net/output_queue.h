// Bytes that wait to be written to a socket. Small pieces are put together, large ones are not copied.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <deque>
#include <span>
#include <string>
#include <string_view>

namespace celslm {

// Not thread-safe.
class OutputQueue {
 public:
  // body_bytes: how many bytes of a pushed body this stands for, reported by consume() once all of it is written.
  void add(std::string bytes, std::size_t body_bytes = 0);
  bool empty() const { return pieces_.empty(); }
  std::size_t added() const { return added_; }  // bytes, since it was empty

  // What to write next.
  std::span<const iovec> front();
  // `bytes` were written; returns the body bytes that are complete with them.
  std::size_t consume(std::size_t bytes);
  void clear() { *this = OutputQueue(); }

 private:
  struct Piece {
    std::string bytes;
    std::size_t body_bytes = 0;
  };
  std::deque<Piece> pieces_;
  std::size_t written_ = 0;  // of the first piece
  std::size_t added_ = 0;
  std::array<iovec, 8> vector_{};
};

}  // namespace celslm
