#include "model/engine/prefill.h"

#include <algorithm>
#include <array>
#include <utility>

#include "model/engine/device_prefill.h"
#include "model/engine/model_impl.h"

namespace celslm {

ContextPrefill::ContextPrefill() = default;
ContextPrefill::ContextPrefill(ContextPrefill&&) noexcept = default;
ContextPrefill& ContextPrefill::operator=(ContextPrefill&&) noexcept = default;
ContextPrefill::~ContextPrefill() = default;

Result<ContextPrefill> ContextPrefill::start(Engine& engine, std::span<const Token> tokens,
                                             std::shared_ptr<KvSegment> segment, std::shared_ptr<const KvTuning> tuning,
                                             Rows rows) {
  if (tokens.empty()) return fail(ErrorKind::kInvalid, "a context needs at least one token");
  if (segment->condensed()) return fail(ErrorKind::kInvalid, "a context cannot be computed into a condensed segment");
  if (segment->first_position() != 0 || static_cast<std::size_t>(segment->capacity()) < tokens.size()) {
    return fail(ErrorKind::kInvalid, "a segment of {} tokens from position {} cannot hold a context of {}",
                segment->capacity(), segment->first_position(), tokens.size());
  }
  if (tuning) CELSLM_CHECK_OK(check_shape(*tuning, engine.model().config()));
  ContextPrefill out;
  out.engine_ = &engine;
  out.segment_ = std::move(segment);
  out.tuning_ = std::move(tuning);
  out.n_layers_ = engine.model().config().n_layers;
  out.n_tokens_ = static_cast<int>(tokens.size());
  out.step_tokens_ = prefill_step(engine.model());
  const auto step = static_cast<std::size_t>(out.step_tokens_);
  for (std::size_t first = 0; first < tokens.size(); first += step) {
    CELSLM_TRY(auto hidden, engine.embed(tokens.subspan(first, std::min(step, tokens.size() - first))));
    out.steps_.push_back(std::move(hidden));
  }
  out.keep_ = rows == Rows::kKept;
  const auto& device = engine.model().impl().device;
  if (device && device->n_layers() == out.n_layers_) {
    CELSLM_TRY(out.device_, DevicePrefill::start(engine.model(), out.steps_, out.segment_));
    for (Hidden& hidden : out.steps_) hidden.values = {};  // they are there now
  }
  return out;
}

Status ContextPrefill::advance(const Tap& tap) {
  if (finished()) return {};
  if (device_) return advance_on_device(tap);
  const int first_row = static_cast<int>(step_) * step_tokens_;
  Hidden& hidden = steps_[step_];
  const std::array chunk{SequenceChunk{.own = segment_, .own_length = first_row, .n_tokens = hidden.n_tokens}};
  KvTap layer_tap;
  if (tuning_) {
    layer_tap = [&](int, auto k, auto v) {
      k_.insert(k_.end(), k.begin(), k.end());
      v_.insert(v_.end(), v.begin(), v.end());
    };
  } else if (tap) {
    layer_tap = [&](int layer, auto k, auto v) { tap(layer, first_row, k, v); };
  }
  CELSLM_CHECK_OK(engine_->run_layers(layer_, layer_ + 1, chunk, hidden, layer_tap));
  return ++step_ == steps_.size() ? finish_layer(tap) : Status();
}

Status ContextPrefill::advance_on_device(const Tap& tap) {
  return device_->advance([&](int layer, int first_row, std::span<const float> k, std::span<const float> v) -> Status {
    if (tuning_) {
      k_.insert(k_.end(), k.begin(), k.end());
      v_.insert(v_.end(), v.begin(), v.end());
    } else {
      if (keep_) {
        const auto n = static_cast<int>(k.size() / static_cast<std::size_t>(engine_->model().config().kv_width()));
        CELSLM_CHECK_OK(Engine::import_rows(engine_->model(), *segment_, layer, first_row, n, k, v));
      }
      if (tap) tap(layer, first_row, k, v);
    }
    return ++step_ == steps_.size() ? finish_layer(tap) : Status();
  });
}

Status ContextPrefill::finish_layer(const Tap& tap) {
  if (tuning_) {
    CELSLM_CHECK_OK(tune_rows(*tuning_, layer_, segment_->type(), k_, v_));
    if (keep_) CELSLM_CHECK_OK(Engine::import_rows(engine_->model(), *segment_, layer_, 0, n_tokens_, k_, v_));
    if (tap) tap(layer_, 0, k_, v_);
    k_.clear();
    v_.clear();
  }
  if (tap && !segment_->has_rows(layer_)) tap(layer_, 0, segment_->state(layer_), {});
  step_ = 0;
  ++layer_;
  if (finished()) segment_->set_length(n_tokens_);
  return {};
}

}  // namespace celslm
