// What a loaded model is made of; for this layer's own files.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "model/config.h"
#include "model/engine/device_model.h"
#include "model/engine/model.h"
#include "model/engine/weights.h"
#include "model/kv/rope.h"
#include "model/kv/rope_cache.h"
#include "model/llama/llama_model.h"

namespace celslm {

// A RoPE and the angles of it that were asked for.
struct Rotation {
  std::unique_ptr<const Rope> rope;
  std::unique_ptr<const RopeCache> angles;
};

struct Model::Impl {
  ModelConfig config;
  ModelFingerprint fingerprint;
  std::unique_ptr<Weights> weights;           // null if libllama runs it
  std::shared_ptr<const LlamaModel> foreign;  // null if our graphs do
  std::string foreign_reason;                 // why
  std::unique_ptr<const DeviceModel> device;  // null: the CPU computes
  std::unique_ptr<const Text> text;
  std::array<Rotation, kRopeUses> rotations;  // by RopeUse

  const Rotation& rotation(int layer) const { return rotations[static_cast<std::size_t>(config.layer(layer).rope)]; }
};

}  // namespace celslm
