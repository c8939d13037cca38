// The indices 0, 1, ..., n - 1 of all layers or all rows.
#pragma once

#include <numeric>
#include <vector>

namespace celslm {

inline std::vector<int> index_range(int n) {
  std::vector<int> out(static_cast<std::size_t>(n));
  std::iota(out.begin(), out.end(), 0);
  return out;
}

}  // namespace celslm
