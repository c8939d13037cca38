// A context's KV as rows of numbers: what a model computes, and a segment made of what something else computed.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/result.h"
#include "model/engine.h"

namespace celslm {

// K before RoPE and V of every layer.
struct KvPlanes {
  std::vector<std::vector<float>> k;  // by layer, [n_tokens][kv_width]
  std::vector<std::vector<float>> v;  // the same shape
  int n_tokens = 0;
};

// A context's KV as a prefill shows it: planes rounded to the segment's type.
struct ExactKv {
  KvPlanes planes;
  std::shared_ptr<const KvSegment> segment;  // f16
};

// Errors of the engine.
Result<ExactKv> compute_kv(Engine& engine, std::span<const Token> tokens);

// An f16 segment of these planes. kInvalid for planes that are not of the model's shape.
Result<std::shared_ptr<KvSegment>> make_segment(const Model& model, const KvPlanes& planes);

}  // namespace celslm
