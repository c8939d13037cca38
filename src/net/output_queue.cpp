#include "net/output_queue.h"

#include <algorithm>
#include <utility>

namespace celslm {
namespace {

constexpr std::size_t kSmallBytes = 16U << 10;

}  // namespace

void OutputQueue::add(std::string bytes, std::size_t body_bytes) {
  if (bytes.empty()) return;
  added_ = bytes.size() + (pieces_.empty() ? 0 : added_);
  // Not to the first one: some of it may be written, and its body bytes would be reported late.
  if (pieces_.size() > 1 && bytes.size() + pieces_.back().bytes.size() <= kSmallBytes) {
    pieces_.back().bytes += bytes;
    pieces_.back().body_bytes += body_bytes;
    return;
  }
  pieces_.push_back({.bytes = std::move(bytes), .body_bytes = body_bytes});
}

std::span<const iovec> OutputQueue::front() {
  std::size_t n = 0;
  for (Piece& piece : pieces_) {
    if (n == vector_.size()) break;
    const std::size_t skip = n == 0 ? written_ : 0;
    vector_[n++] = {.iov_base = piece.bytes.data() + skip, .iov_len = piece.bytes.size() - skip};
  }
  return std::span(vector_).first(n);
}

std::size_t OutputQueue::consume(std::size_t bytes) {
  std::size_t body_bytes = 0;
  written_ += bytes;
  while (!pieces_.empty() && written_ >= pieces_.front().bytes.size()) {
    written_ -= pieces_.front().bytes.size();
    body_bytes += pieces_.front().body_bytes;
    pieces_.pop_front();
  }
  return body_bytes;
}

}  // namespace celslm
