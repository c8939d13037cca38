// A studied pack's blocks on their way into a context's memory.
#pragma once

#include <memory>
#include <vector>

#include "core/mutex.h"
#include "core/result.h"
#include "kv/pack/pack.h"
#include "kv/pack/places.h"
#include "model/engine/model.h"

namespace celslm {

// K cannot be used without places, and a layer that is computed here has other rows than a studied one. So a layer's blocks
// are collected, and the segment gets its rows when they are complete: all studied, or all computed. Thread-safe; everything
// given must outlive this.
class StudiedLayers {
 public:
  // segment: condensed, of identity.n_rows() rows; no layer has been written.
  StudiedLayers(const Model& model, const PackIdentity& identity, KvSegment& segment);

  // Decodes and collects a block; each block once. With a layer's last one, the layer is written before this returns. Does
  // nothing for a layer that is computed already.
  Status add(const VerifiedBlock& block) CELSLM_EXCLUDES(mutex_);
  // Gives the layer the rows of an ordinary segment that holds the context, unless its blocks are complete. kOverloaded
  // where the memory cannot be had.
  Status compute(int layer, const KvSegment& computed) CELSLM_EXCLUDES(mutex_);

 private:
  // Rows that have arrived.
  struct Layer {
    std::vector<float> k;  // [n_rows][kv_width]
    std::vector<float> v;
    RowPlaces places;
    int n_blocks = 0;
    bool written = false;  // or being written
  };
  Status collect(Layer& layer, const BlockRef& ref, std::vector<float> values, const RowPlaces& places)
      CELSLM_REQUIRES(mutex_);

  const Model& model_;
  const PackIdentity& identity_;
  KvSegment& segment_;
  Mutex mutex_;
  std::vector<Layer> layers_ CELSLM_GUARDED_BY(mutex_);
};

}  // namespace celslm
