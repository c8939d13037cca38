#include "plan/estimate.h"

#include <algorithm>

namespace celslm {
namespace {

using namespace std::chrono_literals;

constexpr double kWeight = 0.25;  // of a new value
// Long enough for bursts to even out, short enough that a link that breaks down is seen to within a request.
constexpr Duration kWindow = 20ms;

}  // namespace

void Ewma::add(double value) {
  ++n_;
  const double weight = std::max(kWeight, 1.0 / n_);
  const double off = value - mean_;
  mean_ += weight * off;
  if (n_ > 1) spread_ += weight * (std::abs(off) - spread_);
}

void RateMeter::open(TimePoint now) {
  if (open_) return;
  open_ = true;
  since_ = now;
  bytes_ = 0;
}

std::optional<double> RateMeter::add(std::uint64_t bytes, TimePoint now, bool wanted) {
  bytes_ += bytes;
  return open_ && (wanted || now - since_ >= kWindow) ? sample(now) : std::nullopt;
}

std::optional<double> RateMeter::close(TimePoint now) {
  if (!open_) return std::nullopt;
  open_ = false;
  return bytes_ > 0 ? sample(now) : std::nullopt;
}

std::optional<double> RateMeter::sample(TimePoint now) {
  const double took = std::max(seconds(now - since_), 1e-6);
  const double rate = static_cast<double>(bytes_) / took;
  since_ = now;
  bytes_ = 0;
  return rate;
}

}  // namespace celslm
