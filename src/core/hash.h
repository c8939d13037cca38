// BLAKE3-256: the one content hash of the project.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/result.h"

namespace celslm {

struct Hash256 {
  std::array<std::uint8_t, 32> bytes{};

  auto operator<=>(const Hash256&) const = default;
  std::string hex() const;  // 64 lower-case digits
  static Result<Hash256> from_hex(std::string_view hex);
};

// Incremental hashing; not thread-safe.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  Hasher& update(std::span<const std::byte> data);
  Hasher& update(std::string_view data);
  Hasher& update_u64(std::uint64_t value);  // little-endian
  // A length before the bytes, so that ("ab","c") and ("a","bc") differ.
  Hasher& update_field(std::string_view data);
  Hash256 finish() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Hash256 hash_of(std::span<const std::byte> data);
Hash256 hash_of(std::string_view data);

std::string to_hex(std::span<const std::uint8_t> bytes);
// Lower- or upper-case digits; the number of digits must be exactly 2 * out.size().
Status from_hex(std::string_view hex, std::span<std::uint8_t> out);

}  // namespace celslm

template <>
struct std::hash<celslm::Hash256> {
  std::size_t operator()(const celslm::Hash256& h) const noexcept {
    std::size_t v = 0;
    for (std::size_t i = 0; i < sizeof v; ++i) v = v << 8 | h.bytes[i];
    return v;
  }
};
