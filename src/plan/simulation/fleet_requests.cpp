#include "plan/simulation/fleet_requests.h"

#include <algorithm>
#include <cmath>

#include "plan/simulation/chance.h"

namespace celslm {
namespace {

constexpr int kMostTokens = 1 << 20;

int at_least_one(double tokens) {
  return std::clamp(static_cast<int>(std::lround(tokens)), 1, kMostTokens);
}

// The sums of n^-zipf up to each n.
std::vector<double> popularity(int n_contexts, double zipf) {
  std::vector<double> out;
  double sum = 0;
  for (int n = 1; n <= n_contexts; ++n) out.push_back(sum += std::pow(n, -zipf));
  return out;
}

}  // namespace

std::vector<FleetRequest> synthetic_requests(const SyntheticLoad& load, int n_edges, int n_contexts, std::uint64_t seed) {
  Chance chance(seed);
  const std::vector<double> sums = popularity(n_contexts, load.zipf);
  std::vector<FleetRequest> out;
  for (double at = chance.exponential(1 / load.requests_per_s); at < load.duration_s;
       at += chance.exponential(1 / load.requests_per_s)) {
    FleetRequest request{.at_s = at, .edge = chance.below(n_edges)};
    if (!sums.empty()) {
      const auto it = std::ranges::lower_bound(sums, chance.uniform() * sums.back());
      request.context = std::min(static_cast<int>(it - sums.begin()), n_contexts - 1);
    }
    request.prompt_tokens = at_least_one(chance.exponential(load.prompt_tokens));
    request.answer_tokens = at_least_one(chance.exponential(load.answer_tokens));
    out.push_back(request);
  }
  return out;
}

}  // namespace celslm
