// The angles of positions, computed once for all layers and contexts of a model.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "core/mutex.h"
#include "model/kv/rope.h"

namespace celslm {

// Fills itself page by page, as positions are asked for. Thread-safe. What it keeps is never more than kPages pages: 16 MiB
// for heads of 128 values; positions behind them are computed whenever they are asked for.
class RopeCache {
 public:
  static constexpr int kPage = 256;  // positions
  static constexpr int kPages = 64;

  explicit RopeCache(const Rope& rope) : rope_(rope) {}  // must outlive this

  // Angles of position >= 0. `own` holds those that are not kept; the result is valid as long as it is neither filled again
  // nor destroyed, and this exists.
  RopeAngles angles(int position, std::vector<float>& own) const;

 private:
  struct Page {
    std::once_flag filled;
    std::vector<float> values;  // [kPage][cos, sin][n_pairs]
  };
  void fill(Page& page, int first) const;

  const Rope& rope_;
  mutable std::array<Page, kPages> pages_;
};

}  // namespace celslm
