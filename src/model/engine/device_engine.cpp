#include "model/engine/device_engine.h"

#include <algorithm>
#include <cstring>
#include <exception>

#include "model/engine/model_impl.h"
#include "model/numeric/convert.h"

namespace celslm {

std::byte* Staging::bytes(std::size_t size) {
  if (!buffer_ || ggml_backend_buffer_get_size(buffer_.get()) < size) {
    buffer_.reset();
    buffer_.reset(ggml_backend_buft_alloc_buffer(type_, size));
  }
  return buffer_ ? static_cast<std::byte*>(ggml_backend_buffer_get_base(buffer_.get())) : nullptr;
}

void widen_export(KvType type, const std::byte* from, std::span<float> to) {
  switch (type) {
    case KvType::kF32: std::memcpy(to.data(), from, to.size_bytes()); break;
    case KvType::kBf16: (void)f32_from_bf16(from, to.data(), to.size()); break;
    case KvType::kF16:
    case KvType::kQ8: (void)f32_from_f16(from, to.data(), to.size()); break;
  }
}

Status compute_on(const OpenDevice& device, ggml_backend_t backend, ggml_cgraph* graph) {
  try {
    const ggml_status status = ggml_backend_graph_compute_async(backend, graph);
    if (status == GGML_STATUS_SUCCESS) return {};
    const ErrorKind kind = status == GGML_STATUS_ALLOC_FAILED ? ErrorKind::kOverloaded : ErrorKind::kUnavailable;
    return fail(kind, "{}: {}", device.name(), ggml_status_to_string(status));
  } catch (const std::exception& error) {
    return fail(ErrorKind::kOverloaded, "{}: {}; {:.1f} MB are free there", device.name(), error.what(),
                static_cast<double>(device.free_bytes()) / 1e6);
  }
}

DeviceEngine::DeviceEngine(const Model& model, const DeviceModel& device_model)
    : model_(model),
      device_model_(device_model),
      device_(device_model.device()),
      scratch_(ggml_gallocr_new(device_->buffer_type())),
      staging_(*device_),
      segments_(device_) {}

Result<std::unique_ptr<DeviceEngine>> DeviceEngine::create(const Model& model) {
  std::unique_ptr<DeviceEngine> out(new DeviceEngine(model, *model.impl().device));
  CELSLM_TRY(out->backend_, out->device_->start());
  return out;
}

// Brings the batch's segments to the device, as far as these layers read them.
Result<DeviceBatch> DeviceEngine::place(const PassShape& shape, std::span<const SequenceChunk> batch) {
  DeviceBatch out{.chunks = batch, .contexts = {}, .owns = {}};
  segments_.begin();
  for (const SequenceChunk& chunk : batch) {
    if (chunk.own->type() != batch.front().own->type())
      return fail(ErrorKind::kInvalid, "own segments of type {} and {} in one batch", to_string(chunk.own->type()),
                  to_string(batch.front().own->type()));
    const DeviceSegment* context = nullptr;
    const int n_rows = chunk.context == nullptr ? 0 : context_view(chunk, shape.first).length;
    if (n_rows > 0) {
      CELSLM_TRY(DeviceSegment* const held, segments_.get(chunk.context, SegmentUse::kContext, n_rows));
      for (int layer = shape.first; layer < shape.last; ++layer) held->upload(layer, chunk.context->view(layer).length);
      context = held;
    }
    out.contexts.push_back(context);
    int rows = 0;  // of the longest that shares its context
    for (const SequenceChunk& other : batch) {
      if (&other == &chunk || (n_rows > 0 && other.context == chunk.context))
        rows = std::max(rows, other.own_length + other.n_tokens);
    }
    CELSLM_TRY(DeviceSegment* const own, segments_.get(chunk.own, SegmentUse::kOwn, rows));
    for (int layer = shape.first; layer < shape.last; ++layer) own->upload(layer, chunk.own_length);
    out.owns.push_back(own);
  }
  return out;
}

Status DeviceEngine::compute(ggml_cgraph* graph) {
  const Status status = compute_on(*device_, backend_.get(), graph);
  if (status) return {};
  // What a driver has left behind is not known: the next computation begins with a new stream.
  backend_.reset();
  CELSLM_TRY(backend_, device_->start());
  return status;
}

Result<std::span<const float>> DeviceEngine::run(const PassShape& shape, std::span<const SequenceChunk> batch,
                                                 std::span<const float> hidden, const KvTap& tap) {
  CELSLM_TRY(const DeviceBatch placed, place(shape, batch));
  const DevicePlaces places{};
  CELSLM_TRY(const auto graph, DeviceGraph::build(model_.config(), device_model_, placed, shape, places, scratch_.get()));
  graph->set_inputs();
  ggml_backend_tensor_set(graph->hidden(), hidden.data(), 0, hidden.size_bytes());
  CELSLM_CHECK_OK(compute(graph->cgraph()));
  CELSLM_CHECK_OK(hand_on(*graph, shape, batch, placed, tap));
  result_.resize(static_cast<std::size_t>(ggml_nelements(graph->result())));
  ggml_backend_tensor_get(graph->result(), result_.data(), 0, result_.size() * sizeof(float));
  return result_;
}

// The rows that were computed: to the tap, and into the host's segments.
Status DeviceEngine::hand_on(const DeviceGraph& graph, const PassShape& shape, std::span<const SequenceChunk> batch,
                             const DeviceBatch& placed, const KvTap& tap) {
  const auto n_layers = static_cast<std::size_t>(shape.last - shape.first);
  if (n_layers == 0) {
    ggml_backend_synchronize(backend_.get());
    return {};
  }
  const KvType type = batch.front().own->type();
  const std::size_t plane = ggml_nbytes(graph.k(shape.first));
  std::byte* const staged = staging_.bytes(2 * plane * n_layers);
  if (staged == nullptr) return fail(ErrorKind::kOverloaded, "no memory to take {} bytes of KV", 2 * plane * n_layers);
  for (std::size_t i = 0; i < n_layers; ++i) {
    const int layer = shape.first + static_cast<int>(i);
    ggml_backend_tensor_get_async(backend_.get(), graph.k(layer), staged + 2 * i * plane, 0, plane);
    ggml_backend_tensor_get_async(backend_.get(), graph.v(layer), staged + (2 * i + 1) * plane, 0, plane);
  }
  ggml_backend_synchronize(backend_.get());
  const auto width = static_cast<std::size_t>(model_.config().kv_width());
  std::vector<float> k(static_cast<std::size_t>(shape.n_tokens) * width);
  std::vector<float> v(k.size());
  for (std::size_t i = 0; i < n_layers; ++i) {
    const int layer = shape.first + static_cast<int>(i);
    widen_export(type, staged + 2 * i * plane, k);
    widen_export(type, staged + (2 * i + 1) * plane, v);
    std::size_t row = 0;
    for (std::size_t c = 0; c < batch.size(); ++c) {
      const SequenceChunk& chunk = batch[c];
      const std::size_t n = static_cast<std::size_t>(chunk.n_tokens) * width;
      CELSLM_CHECK_OK(Engine::import_rows(model_, *chunk.own, layer, chunk.own_length, chunk.n_tokens,
                                          std::span(k).subspan(row, n), std::span(v).subspan(row, n)));
      placed.owns[c]->computed(layer, chunk.own_length + chunk.n_tokens);
      row += n;
    }
    if (tap) tap(layer, k, v);
  }
  return {};
}

Status DeviceEngine::run_layers(int first, int last, std::span<const SequenceChunk> batch, Hidden& hidden,
                                const KvTap& tap) {
  const PassShape shape{.first = first, .last = last, .n_tokens = hidden.n_tokens};
  CELSLM_TRY(const std::span<const float> out, run(shape, batch, hidden.values, tap));
  std::ranges::copy(out, hidden.values.begin());
  return {};
}

Result<std::span<const float>> DeviceEngine::logits(const Hidden& hidden) {
  const int n = model_.config().n_layers;
  return run({.first = n, .last = n, .n_tokens = hidden.n_tokens, .n_outputs = hidden.n_tokens}, {}, hidden.values, {});
}

Result<std::span<const float>> DeviceEngine::forward(std::span<const SequenceChunk> batch, const Hidden& hidden) {
  return run({.last = model_.config().n_layers, .n_tokens = hidden.n_tokens, .n_outputs = static_cast<int>(batch.size())},
             batch, hidden.values, {});
}

}  // namespace celslm
