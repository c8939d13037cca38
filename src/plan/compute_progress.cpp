#include "plan/compute_progress.h"

#include <algorithm>

namespace celslm {
namespace {

constexpr Duration kSilence = std::chrono::seconds(2);  // nobody computes who has not asked for so long

}  // namespace

bool ComputeProgress::is_active(TimePoint now) const {
  return now - asked_ < kSilence;
}

bool ComputeProgress::asked_lately(TimePoint now) const {
  return now - asked_ < kSilence / 2;
}

void ComputeProgress::unit_computed(double part, TimePoint began, TimePoint now) {
  // What else the engine does between two units of a context counts: it is how fast this context is computed.
  const TimePoint from = unit_ended_ == TimePoint{} ? began : unit_ended_;
  unit_ended_ = now;
  // The first unit touches its memory for the first time and starts threads: no measure of the others, where one is known.
  const bool first = layer_ == 0 && part_ == 0;
  if (!first || assumed_layer_s_ <= 0) layer_s_.add(seconds(now - from) / part);
  part_ = std::min(1.0, part_ + part);
}

void ComputeProgress::layer_computed(int layer) {
  layer_ = layer + 1;
  part_ = 0;
}

}  // namespace celslm
