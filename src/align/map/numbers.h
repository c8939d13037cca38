// 0, 1, 2, ...: all layers, all rows.
#pragma once

#include <numeric>
#include <vector>

namespace celslm {

inline std::vector<int> first_numbers(int n) {
  std::vector<int> out(static_cast<std::size_t>(n));
  std::iota(out.begin(), out.end(), 0);
  return out;
}

}  // namespace celslm
