// A context's KV as f32 rows: computed by a model, and imported into a segment that attention can use.
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

// The same KV twice: as planes, rounded to the segment's type, and as the segment itself.
struct ExactKv {
  KvPlanes planes;
  std::shared_ptr<const KvSegment> segment;  // f16
};

// Prefills `tokens` on `engine`. Errors of the engine; kCancelled if `stop` is requested, checked between prefill steps.
Result<ExactKv> compute_kv(Engine& engine, std::span<const Token> tokens, const std::stop_token& stop = {});

// A segment with `below` in the layers below `split` and `from` in the others, both with rows for the same tokens. Errors of
// KvSegment::create and Engine::import_rows.
Result<std::shared_ptr<KvSegment>> make_segment(const Model& model, const KvPlanes& below, const KvPlanes& from, int split);

}  // namespace celslm
