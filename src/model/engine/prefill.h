// Prefill of a context, layer by layer: all tokens through layer 0, then layer 1, ... so that shallow layers are finished
// first, each layer's weights are read once per step, and the work can be paused, taken over or stopped at any layer.
//
// Cloud and edge both prefill this way, in steps of kPrefillStep tokens, which is what makes their KV equal bit by bit.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/result.h"
#include "model/engine/engine.h"

namespace celslm {

// One context's prefill, advanced by its owner one unit (a layer's step) at a time. One thread at a time.
class ContextPrefill {
 public:
  // segment: capacity >= tokens.size(), first_position 0. The engine must outlive this.
  static Result<ContextPrefill> start(Engine& engine, std::span<const Token> tokens, std::shared_ptr<KvSegment> segment);

  // K before RoPE (rounded) and V of rows [first_row, first_row + k.size() / kv_width), as they are computed.
  using Tap = std::function<void(int layer, int first_row, std::span<const float> k, std::span<const float> v)>;

  // Computes the next step of the current layer. The last unit sets the segment's length.
  Status advance(const Tap& tap = {});

  int layers_done() const { return layer_; }
  bool finished() const { return layer_ == n_layers_; }
  int units() const { return n_layers_ * static_cast<int>(steps_.size()); }

 private:
  ContextPrefill() = default;
  Engine* engine_ = nullptr;
  std::shared_ptr<KvSegment> segment_;
  std::vector<Hidden> steps_;  // hidden states of each step, replaced layer by layer
  int n_layers_ = 0;
  int n_tokens_ = 0;
  int layer_ = 0;
  std::size_t step_ = 0;
};

}  // namespace celslm
