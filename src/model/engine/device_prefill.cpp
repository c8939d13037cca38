#include "model/engine/device_prefill.h"

#include <cstdint>
#include <exception>

#include "model/engine/model_impl.h"

namespace celslm {

DevicePrefill::DevicePrefill(const Model& model, std::shared_ptr<KvSegment> segment)
    : model_(model), device_model_(*model.impl().device), device_(device_model_.device()), segment_(std::move(segment)) {}

// What is under way reads and writes memory that is about to go.
DevicePrefill::~DevicePrefill() {
  try {
    if (backend_) ggml_backend_synchronize(backend_.get());
  } catch (const std::exception&) {  // a driver's: the device is lost, and nothing runs there
  }
}

Result<std::unique_ptr<DevicePrefill>> DevicePrefill::start(const Model& model, std::span<const Hidden> hidden,
                                                            std::shared_ptr<KvSegment> segment, bool copies) {
  std::unique_ptr<DevicePrefill> out(new DevicePrefill(model, std::move(segment)));
  CELSLM_CHECK_OK(out->allocate(hidden));
  CELSLM_TRY(out->backend_, out->device_->start());
  for (Slot& slot : out->slots_) {
    slot.scratch.reset(ggml_gallocr_new(out->device_->buffer_type()));
    slot.staging = std::make_unique<Staging>(*out->device_);
    if (out->device_->has_events()) slot.done.reset(ggml_backend_event_new(out->device_->handle()));
  }
  out->copies_ = copies;
  out->n_units_ = model.config().n_layers * static_cast<int>(hidden.size());
  return out;
}

Status DevicePrefill::allocate(std::span<const Hidden> hidden) {
  std::vector<std::int32_t> positions;
  std::vector<std::int64_t> rows;
  for (const Hidden& step : hidden) {
    steps_.push_back({.first_row = static_cast<int>(rows.size()), .n_tokens = step.n_tokens, .places = {}});
    for (int i = 0; i < step.n_tokens; ++i) {
      positions.push_back(static_cast<std::int32_t>(rows.size()));
      rows.push_back(static_cast<std::int64_t>(rows.size()));
    }
  }
  const auto n_tokens = static_cast<std::int64_t>(rows.size());
  const std::size_t n_tensors = 3 + 3 * hidden.size();
  context_.reset(ggml_init({.mem_size = ggml_tensor_overhead() * (n_tensors + 1), .mem_buffer = nullptr, .no_alloc = true}));
  if (!context_) return fail(ErrorKind::kOverloaded, "no memory for the tensors of a prefill");
  hidden_ = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, model_.config().n_embd, n_tokens);
  ggml_tensor* const all_positions = ggml_new_tensor_1d(context_.get(), GGML_TYPE_I32, n_tokens);
  ggml_tensor* const all_rows = ggml_new_tensor_1d(context_.get(), GGML_TYPE_I64, n_tokens);
  CELSLM_TRY(buffer_, device_->allocate(context_.get(), fmt::format("the prefill of {} tokens", n_tokens)));
  ggml_backend_tensor_set(all_positions, positions.data(), 0, ggml_nbytes(all_positions));
  ggml_backend_tensor_set(all_rows, rows.data(), 0, ggml_nbytes(all_rows));
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    Step& step = steps_[i];
    const auto first = static_cast<std::size_t>(step.first_row);
    ggml_tensor* const x =
        ggml_view_2d(context_.get(), hidden_, hidden_->ne[0], step.n_tokens, hidden_->nb[1], first * hidden_->nb[1]);
    step.places = {.in = x,
                   .out = x,
                   .positions = ggml_view_1d(context_.get(), all_positions, step.n_tokens, first * all_positions->nb[0]),
                   .own_rows = ggml_view_1d(context_.get(), all_rows, step.n_tokens, first * all_rows->nb[0])};
    for (ggml_tensor* view : {x, step.places.positions, step.places.own_rows}) ggml_backend_view_init(view);
    ggml_backend_tensor_set(x, hidden[i].values.data(), 0, ggml_nbytes(x));
  }
  CELSLM_TRY(layer_kv_, DeviceSegment::create_layer(*device_, segment_, static_cast<int>(n_tokens)));
  return {};
}

Status DevicePrefill::advance(const OnRows& on_rows) {
  const auto n_steps = static_cast<int>(steps_.size());
  Slot& before = slots_[static_cast<std::size_t>((begun_ + 1) % 2)];
  if (begun_ < n_units_) {
    Slot& slot = slots_[static_cast<std::size_t>(begun_ % 2)];
    CELSLM_CHECK_OK(begin_unit(slot, begun_ / n_steps, steps_[static_cast<std::size_t>(begun_ % n_steps)]));
  }
  ++begun_;
  return end_unit(before, on_rows);
}

Status DevicePrefill::begin_unit(Slot& slot, int layer, const Step& step) {
  const SequenceChunk chunk{.own = segment_, .own_length = step.first_row, .n_tokens = step.n_tokens};
  const DeviceBatch batch{.chunks = std::span(&chunk, 1), .contexts = {nullptr}, .owns = {layer_kv_.get()}};
  const PassShape shape{.first = layer, .last = layer + 1, .n_tokens = step.n_tokens};
  CELSLM_TRY(slot.graph, DeviceGraph::build(model_.config(), device_model_, batch, shape, step.places, slot.scratch.get()));
  slot.graph->set_inputs();
  slot.plane_bytes = ggml_nbytes(slot.graph->k(layer));
  std::byte* const staged = slot.staging->bytes(2 * slot.plane_bytes);
  if (staged == nullptr) return fail(ErrorKind::kOverloaded, "no memory to take {} bytes of KV", 2 * slot.plane_bytes);
  CELSLM_CHECK_OK(compute_on(*device_, backend_.get(), slot.graph->cgraph()));
  if (copies_) {
    ggml_backend_tensor_get_async(backend_.get(), slot.graph->k(layer), staged, 0, slot.plane_bytes);
    ggml_backend_tensor_get_async(backend_.get(), slot.graph->v(layer), staged + slot.plane_bytes, 0, slot.plane_bytes);
  }
  if (slot.done) ggml_backend_event_record(slot.done.get(), backend_.get());
  slot.staged = staged;
  slot.layer = layer;
  slot.step = &step;
  return {};
}

Status DevicePrefill::end_unit(Slot& slot, const OnRows& on_rows) {
  if (slot.staged == nullptr) return {};
  try {
    slot.done ? ggml_backend_event_synchronize(slot.done.get()) : ggml_backend_synchronize(backend_.get());
  } catch (const std::exception& error) {  // a driver's
    return fail(ErrorKind::kUnavailable, "{}: {}", device_->name(), error.what());
  }
  std::vector<float> k(static_cast<std::size_t>(slot.step->n_tokens) * static_cast<std::size_t>(model_.config().kv_width()));
  std::vector<float> v(k.size());
  widen_export(segment_->type(), slot.staged, k);
  widen_export(segment_->type(), slot.staged + slot.plane_bytes, v);
  slot.staged = nullptr;
  return on_rows(slot.layer, slot.step->first_row, k, v);
}

}  // namespace celslm
