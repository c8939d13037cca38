#include "model/kv/rope_cache.h"

#include <span>

namespace celslm {
namespace {

// values: [cos, sin][n]
RopeAngles compute(const Rope& rope, int position, std::span<float> values) {
  const auto n = static_cast<std::size_t>(rope.n_pairs());
  rope.angles(position, values.first(n), values.subspan(n, n));
  return {.cos = values.data(), .sin = values.data() + n};
}

}  // namespace

void RopeCache::fill(Page& page, int first) const {
  const auto row = 2 * static_cast<std::size_t>(rope_.n_pairs());
  page.values.resize(kPage * row);
  for (int i = 0; i < kPage; ++i)
    compute(rope_, first + i, std::span(page.values).subspan(static_cast<std::size_t>(i) * row, row));
}

RopeAngles RopeCache::angles(int position, std::vector<float>& own) const {
  const auto n = static_cast<std::size_t>(rope_.n_pairs());
  if (position >= kPage * kPages) {
    own.resize(2 * n);
    return compute(rope_, position, own);
  }
  Page& page = pages_[static_cast<std::size_t>(position / kPage)];
  std::call_once(page.filled, [&] { fill(page, position / kPage * kPage); });
  const float* row = page.values.data() + static_cast<std::size_t>(position % kPage) * 2 * n;
  return {.cos = row, .sin = row + n};
}

}  // namespace celslm
