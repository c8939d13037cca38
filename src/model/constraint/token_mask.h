// A set of tokens of one vocabulary.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/config.h"

namespace celslm {

class TokenMask {
 public:
  TokenMask() = default;
  explicit TokenMask(int n_vocab) : bits_((static_cast<std::size_t>(n_vocab) + 7) / 8) {}
  // Eight tokens a byte, the first in the lowest bit.
  explicit TokenMask(std::vector<std::uint8_t> bytes) : bits_(std::move(bytes)) {}

  void add(Token token) { bits_[static_cast<std::size_t>(token) / 8] |= bit(token); }
  // False for tokens beyond the vocabulary.
  bool has(Token token) const {
    const auto byte = static_cast<std::size_t>(token) / 8;
    return token >= 0 && byte < bits_.size() && (bits_[byte] & bit(token)) != 0;
  }
  bool empty() const {
    return std::ranges::all_of(bits_, [](std::uint8_t byte) { return byte == 0; });
  }
  const std::vector<std::uint8_t>& bytes() const { return bits_; }

 private:
  static std::uint8_t bit(Token token) { return static_cast<std::uint8_t>(1U << (static_cast<unsigned>(token) % 8U)); }
  std::vector<std::uint8_t> bits_;
};

}  // namespace celslm
