// A context's KV as rows of numbers: out of a model, and back into what attention reads.
#pragma once

#include <memory>
#include <span>
#include <stop_token>
#include <vector>

#include "core/result.h"
#include "model/engine/engine.h"

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

// Errors of the engine; kCancelled soon after `stop` is requested.
Result<ExactKv> compute_kv(Engine& engine, std::span<const Token> tokens, const std::stop_token& stop = {});

// A segment with `below` in the layers below `split` and `from` in the others, both with rows for the same tokens. Errors of
// KvSegment::create and Engine::import_rows.
Result<std::shared_ptr<KvSegment>> make_segment(const Model& model, const KvPlanes& below, const KvPlanes& from, int split);

}  // namespace celslm
