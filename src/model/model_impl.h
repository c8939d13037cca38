// What a loaded model is made of; for this layer's own files.
#pragma once

#include <memory>

#include "model/config.h"
#include "model/model.h"
#include "model/rope.h"
#include "model/weights.h"

namespace celslm {

struct Model::Impl {
  ModelConfig config;
  ModelFingerprint fingerprint;
  std::unique_ptr<Weights> weights;
  std::unique_ptr<const Text> text;
  std::unique_ptr<const Rope> rope;
};

}  // namespace celslm
