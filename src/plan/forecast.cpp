#include "plan/forecast.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace celslm {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();
// Computing takes cores from receiving, and a unit that has begun cannot be stopped: it must be faster by this factor.
constexpr double kWorthIt = 0.97;

// Seconds until all sources together have sent so many bytes.
double transfer_s(const ForecastInput& input, std::uint64_t bytes) {
  if (bytes == 0) return 0;
  double rate = 0;
  double sent_before_start = 0;  // what the sources so far would have sent, had none waited
  double done = kNever;
  for (const SourceRate& source : input.sources) {
    if (source.rate_bytes_per_s <= 0 || source.wait_s >= done) continue;
    rate += source.rate_bytes_per_s;
    sent_before_start += source.rate_bytes_per_s * source.wait_s;
    done = (static_cast<double>(bytes) + sent_before_start) / rate;
  }
  return std::max(done, input.source_complete_in_s);
}

double fetch_all_s(const ForecastInput& input) {
  std::uint64_t bytes = 0;
  double through = 0;
  for (const std::uint64_t missing : input.missing_bytes) {
    bytes += missing;
    through = std::max(through, missing > 0 ? transfer_s(input, bytes) : 0.0) + input.own_layer_s;
  }
  return through;
}

}  // namespace

Forecast forecast(const ForecastInput& input) {
  const int n_layers = static_cast<int>(input.missing_bytes.size());
  const double fetch_s = fetch_all_s(input);
  Forecast best{.seconds = fetch_s, .fetch_s = fetch_s, .compute_until = input.computing};
  std::uint64_t above = std::accumulate(input.missing_bytes.begin(), input.missing_bytes.end(), std::uint64_t{0});
  for (int k = 0; k < std::min(n_layers, input.compute_limit); ++k) {
    above -= input.missing_bytes[static_cast<std::size_t>(k)];
    if (k < input.computing) continue;
    const int split = k + 1;
    const double computing = std::max(0.0, split - input.computing - input.computed_part) * input.layer_s;
    const double meeting = std::max(computing + split * input.own_layer_s, transfer_s(input, above));
    const double total = meeting + (n_layers - split) * input.own_layer_s;
    const double to_beat = best.order == FetchOrder::kDeepFirst ? best.seconds : best.seconds * kWorthIt;
    if (total < to_beat)
      best = {.seconds = total, .fetch_s = fetch_s, .compute_until = split, .order = FetchOrder::kDeepFirst};
  }
  return best;
}

}  // namespace celslm
