// What a loaded model is made of; for this layer's own files.
#pragma once

#include <memory>

#include "model/config.h"
#include "model/engine/model.h"
#include "model/engine/weights.h"
#include "model/kv/rope.h"
#include "model/kv/rope_cache.h"

namespace celslm {

struct Model::Impl {
  ModelConfig config;
  ModelFingerprint fingerprint;
  std::unique_ptr<Weights> weights;
  std::unique_ptr<const Text> text;
  std::unique_ptr<const Rope> rope;
  std::unique_ptr<const RopeCache> angles;  // of rope
};

}  // namespace celslm
