// A context that no load fills: one for which there was no memory to begin a load.
#pragma once

#include <memory>
#include <vector>

#include "serve/context/resident_context.h"

namespace celslm {

// The engine computes all of it. Needs next to no memory itself. The context must outlive this.
class ComputeAlone final : public ComputeWork {
 public:
  ComputeAlone(ResidentContext& context, std::shared_ptr<const KvTuning> tuning)
      : context_(context), tuning_(std::move(tuning)) {}

  bool wants_unit() override { return true; }
  void unit_computed(double, TimePoint) override {}
  std::shared_ptr<const KvTuning> tuning() const override { return tuning_; }
  bool wants_rows() const override { return false; }
  void layer_computed(int layer, KvSegment& from, std::vector<float> k, std::vector<float> v) override;
  void set_deadline(TimePoint) override {}

 private:
  ResidentContext& context_;
  const std::shared_ptr<const KvTuning> tuning_;
};

}  // namespace celslm
