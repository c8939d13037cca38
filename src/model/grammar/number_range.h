// Numbers between bounds, as GBNF over their decimal digits.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace celslm {

struct NumberBounds {
  std::optional<std::int64_t> low;
  std::optional<std::int64_t> high;
  // Of numbers with a fraction: whether the bound itself is out.
  bool above_low = false;
  bool below_high = false;
};

inline constexpr std::int64_t kMostInteger = 999'999'999'999'999;  // a double holds it, and answers need no endless digits

// Bounds lie within +-kMostInteger, which are the bounds where none is given. Empty: no number is between them.
std::string integers_between(std::optional<std::int64_t> low, std::optional<std::int64_t> high);
std::string decimals_between(const NumberBounds& bounds);

}  // namespace celslm
