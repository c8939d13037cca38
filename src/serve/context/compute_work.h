// What a load and the batch loop share: the part of a context that is computed here.
#pragma once

#include <memory>
#include <vector>

#include "core/clock.h"
#include "model/kv/kv_segment.h"
#include "model/kv/kv_tuning.h"

namespace celslm {

// What the engine's thread computes for a context, unit by unit (a layer's step), from layer 0 up. Thread-safe.
class ComputeWork {
 public:
  virtual ~ComputeWork() = default;
  // Whether the next unit should be computed now. To be asked again whenever the context has changed.
  virtual bool wants_unit() = 0;
  // `part` of a layer is computed; the parts of a layer add up to 1.
  virtual void unit_computed(double part, TimePoint began) = 0;
  // To be added to what is computed; null: nothing. Always the same.
  virtual std::shared_ptr<const KvTuning> tuning() const = 0;
  // Whether layer_computed() has a use for k and v.
  virtual bool wants_rows() const = 0;
  // A layer is computed: it lies in `from`, of the context's shape; k (before RoPE) and v: [n_tokens][kv_width], or empty.
  virtual void layer_computed(int layer, KvSegment& from, std::vector<float> k, std::vector<float> v) = 0;
  // The waiting request accepts to wait until then for what sources could supply; the rest is computed.
  virtual void set_deadline(TimePoint deadline) = 0;
};

}  // namespace celslm
