// How far local compute has come with a context, and how fast it is.
#pragma once

#include "core/clock.h"
#include "plan/estimate.h"

namespace celslm {

// Layers are computed from 0 up, in units. Not thread-safe, like the plan that owns it.
class ComputeProgress {
 public:
  // `assumed_layer_s`: one layer's computation, as measured earlier; 0: unknown.
  ComputeProgress(double assumed_layer_s, TimePoint now) : assumed_layer_s_(assumed_layer_s), asked_(now) {}

  int layer() const { return layer_; }   // all below have been computed
  double part() const { return part_; }  // of that layer, that has been computed: 0 to 1
  double layer_s() const { return layer_s_.mean_or(assumed_layer_s_); }
  bool measured() const { return layer_s_.known(); }  // in this load
  // Whether somebody computes: whoever does asks before each unit.
  bool is_active(TimePoint now) const;
  bool asked_lately(TimePoint now) const;  // and will count as active for a while

  void asked(TimePoint now) { asked_ = now; }
  // Nothing is to be computed for now.
  void pause() { unit_ended_ = {}; }
  // `part` of a layer is computed; the parts of a layer add up to 1.
  void unit_computed(double part, TimePoint began, TimePoint now);
  void layer_computed(int layer);

 private:
  const double assumed_layer_s_;
  int layer_ = 0;
  double part_ = 0;
  Ewma layer_s_;
  TimePoint asked_;
  TimePoint unit_ended_{};  // of the last unit, if another was wanted at once
};

}  // namespace celslm
