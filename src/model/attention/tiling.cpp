#include "model/attention/tiling.h"

#include <algorithm>
#include <numeric>

namespace celslm::attention_detail {
namespace {

// What a row costs beside its keys (packing, writing out), in keys.
constexpr std::size_t kRowCost = 8;

// costs[row]: keys that rows [0, row] see, and their fixed cost.
void cumulate_costs(const AttentionArgs& args, std::vector<std::size_t>& costs) {
  costs.assign(args.n_rows, kRowCost);
  for (const AttentionGroup& group : args.groups) {
    const int last = std::min(args.n_rows, group.first_row + group.n_rows);
    for (int row = std::max(0, group.first_row); row < last; ++row) costs[row] += seen_by(group, row).count();
  }
  std::partial_sum(costs.begin(), costs.end(), costs.begin());
}

}  // namespace

Seen seen_by(const AttentionGroup& group, int row) {
  const int i = row - group.first_row;
  if (i < 0 || i >= group.n_rows) return {};
  const int last = std::clamp(group.visible + i * group.causal, 0, group.kv.capacity);
  return {.first = std::clamp(group.hidden + i * group.sliding, 0, last), .last = last};
}

UnitRange share_of(const AttentionArgs& args, int ith, int nth, std::vector<std::size_t>& costs) {
  cumulate_costs(args, costs);
  const std::size_t gqa = args.n_heads / args.n_kv_heads;
  const std::size_t head_cost = costs.back() * gqa;  // of one KV head

  const auto boundary = [&](std::size_t i) {  // the unit at which the i-th nth of the cost is reached
    const std::size_t cost = head_cost * args.n_kv_heads * i / nth;
    const std::size_t kv_head = cost / head_cost;
    if (kv_head >= static_cast<std::size_t>(args.n_kv_heads)) return args.n_kv_heads * args.n_rows * gqa;
    const std::size_t left = cost % head_cost;
    const std::size_t row = std::ranges::upper_bound(costs, left / gqa) - costs.begin();
    const std::size_t before = row == 0 ? 0 : costs[row - 1] * gqa;
    return (kv_head * args.n_rows + row) * gqa + (left - before) / (costs[row] - before / gqa);
  };
  return {boundary(ith), boundary(ith + 1)};
}

}  // namespace celslm::attention_detail
