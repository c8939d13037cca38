#include "plan/estimate.h"

#include <algorithm>

namespace celslm {
namespace {

constexpr double kWeight = 0.25;  // of a new value
// A sample takes so many bytes over at least the shortest time, or whatever arrived within the longest time: long enough for
// bursts to even out, short enough to notice a link that breaks down within one request.
constexpr std::uint64_t kWindowBytes = 64U << 10;
constexpr double kShortestWindow = 0.02;
constexpr double kLongestWindow = 0.25;
constexpr double kRoughWindow = 0.01;

}  // namespace

void Ewma::add(double value) {
  ++n_;
  const double weight = std::max(kWeight, 1.0 / n_);
  const double off = value - mean_;
  mean_ += weight * off;
  if (n_ > 1) spread_ += weight * (std::abs(off) - spread_);
}

void RateMeter::pass(TimePoint now) {
  if (answers_ > 0) busy_s_ += seconds(now - since_);
  since_ = now;
}

void RateMeter::begin(std::uint64_t bytes, TimePoint now) {
  pass(now);
  if (answers_++ > 0) bytes_ += bytes;  // else they were sent before the measured time began
}

void RateMeter::end(TimePoint now) {
  pass(now);
  --answers_;
}

void RateMeter::add(std::uint64_t bytes, TimePoint now) {
  pass(now);
  bytes_ += bytes;
}

std::optional<double> RateMeter::sample(bool roughly) {
  const bool enough = (bytes_ >= kWindowBytes && busy_s_ >= kShortestWindow) || busy_s_ >= kLongestWindow;
  const bool some = answers_ == 0 ? busy_s_ > 0 : busy_s_ >= kRoughWindow;
  if (bytes_ == 0 || !(enough || (roughly && some))) return std::nullopt;
  const double rate = static_cast<double>(bytes_) / busy_s_;
  busy_s_ = 0;
  bytes_ = 0;
  return rate;
}

}  // namespace celslm
