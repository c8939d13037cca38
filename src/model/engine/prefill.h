// Prefill of a context, layer by layer: all tokens through layer 0, then layer 1, ... so that shallow layers are finished
// first, each layer's weights are read once per step, and the work can be paused, taken over or stopped at any layer.
//
// Cloud and edge both prefill this way, in steps of kPrefillStep tokens, which is what makes their KV equal bit by bit.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/result.h"
#include "model/engine/engine.h"
#include "model/kv/kv_tuning.h"

namespace celslm {

class DevicePrefill;

// One context's prefill, advanced by its owner one unit (a layer's step) at a time. One thread at a time.
class ContextPrefill {
 public:
  ContextPrefill(ContextPrefill&&) noexcept;
  ContextPrefill& operator=(ContextPrefill&&) noexcept;
  ~ContextPrefill();

  enum class Rows : std::uint8_t { kKept, kShown };

  // segment: capacity >= tokens.size(), first_position 0. The engine must outlive this.
  // rows: whether somebody reads the segment; otherwise it may stay empty, and only the tap gets the rows.
  // tuning: null for the model's own KV. With one the prefill itself stays native: a layer's rows are replaced by the tuned
  // ones when all its steps are done. kMismatch for constants of another shape.
  static Result<ContextPrefill> start(Engine& engine, std::span<const Token> tokens, std::shared_ptr<KvSegment> segment,
                                      std::shared_ptr<const KvTuning> tuning = {}, Rows rows = Rows::kKept);

  // Of a recurrent layer k is its state behind the last token, when all tokens have passed it, and v is empty. Of others:
  // K before RoPE and V of rows [first_row, first_row + k.size() / kv_width), both rounded: as they are computed, with a
  // tuning all rows of a layer when it is complete.
  using Tap = std::function<void(int layer, int first_row, std::span<const float> k, std::span<const float> v)>;

  // Computes the next step of the current layer. The last unit sets the segment's length. Errors of Engine::run_layers and
  // tune_rows(). On a device (DevicePrefill) a step's rows come with the next call, while that step is computed.
  Status advance(const Tap& tap = {});

  int layers_done() const { return layer_; }
  bool finished() const { return layer_ == n_layers_; }
  int units() const { return n_layers_ * static_cast<int>(steps_.size()); }

 private:
  ContextPrefill();
  Status advance_on_device(const Tap& tap);
  Status finish_layer(const Tap& tap);

  Engine* engine_ = nullptr;
  std::shared_ptr<KvSegment> segment_;
  std::shared_ptr<const KvTuning> tuning_;  // null: none
  std::vector<float> k_;  // rows of the current layer so far, as the model computes them; with a tuning only
  std::vector<float> v_;
  std::vector<Hidden> steps_;              // hidden states of each step, replaced layer by layer
  std::unique_ptr<DevicePrefill> device_;  // has them instead, where a device computes all layers; else null
  bool keep_ = true;                       // rows in the segment
  int n_layers_ = 0;
  int n_tokens_ = 0;
  int step_tokens_ = kPrefillStep;
  int layer_ = 0;
  std::size_t step_ = 0;
};

}  // namespace celslm
