#include "model/device/device_segment.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/numeric/convert.h"

namespace celslm {
namespace {

// Own rows grow by doubling, as far as the segment can.
int rounded_rows(int rows, int capacity) {
  int out = kRowsPadding;
  while (out < rows) out *= 2;
  return padded_rows(std::max(rows, std::min(out, capacity)));
}

int context_rows(const KvSegment& segment, int layer) {
  return padded_rows(std::max(1, segment.view(layer).length));
}

ggml_type context_value_type(KvType type) {
  return type == KvType::kF16 ? GGML_TYPE_F16 : GGML_TYPE_F32;
}

// One row of a segment as f32.
void widen(KvType type, const std::byte* row, std::span<float> out) {
  if (type == KvType::kF32) {
    std::copy_n(reinterpret_cast<const float*>(row), out.size(), out.data());
    return;
  }
  ggml_get_type_traits(ggml_type_of(type))->to_float(row, out.data(), static_cast<std::int64_t>(out.size()));
}

}  // namespace

ggml_type ggml_type_of(KvType type) {
  switch (type) {
    case KvType::kF32: return GGML_TYPE_F32;
    case KvType::kF16: return GGML_TYPE_F16;
    case KvType::kBf16: return GGML_TYPE_BF16;
    case KvType::kQ8: return GGML_TYPE_Q8_0;
  }
  return GGML_TYPE_F32;
}

Result<std::unique_ptr<DeviceSegment>> DeviceSegment::create(OpenDevice& device,
                                                             const std::shared_ptr<const KvSegment>& segment, SegmentUse use,
                                                             int rows) {
  std::unique_ptr<DeviceSegment> out(new DeviceSegment);
  out->segment_ = segment;
  out->use_ = use;
  const auto n_layers = static_cast<std::size_t>(segment->n_layers());
  out->context_.reset(
      ggml_init({.mem_size = ggml_tensor_overhead() * (2 * n_layers + 1), .mem_buffer = nullptr, .no_alloc = true}));
  if (!out->context_) return fail(ErrorKind::kOverloaded, "no memory for the tensors of a KV segment");
  const int capacity = rounded_rows(rows, segment->capacity());
  for (std::size_t i = 0; i < n_layers; ++i) {
    const bool is_context = use == SegmentUse::kContext;
    const int n = is_context ? context_rows(*segment, static_cast<int>(i)) : capacity;
    const auto dim = segment->head_dim();
    const auto heads = segment->n_kv_heads();
    ggml_context* const ctx = out->context_.get();
    const ggml_type type = ggml_type_of(segment->type());
    out->layers_.push_back({.k = ggml_new_tensor_3d(ctx, type, dim, n, heads),
                            .v = is_context ? ggml_new_tensor_3d(ctx, context_value_type(segment->type()), n, dim, heads)
                                            : ggml_new_tensor_3d(ctx, type, dim, n, heads),
                            .rows = n});
  }
  CELSLM_TRY(out->buffer_, device.allocate(out->context_.get(), use == SegmentUse::kContext
                                                                    ? fmt::format("the KV of a context of {} rows", rows)
                                                                    : fmt::format("the KV of {} own tokens", capacity)));
  return out;
}

Result<std::unique_ptr<DeviceSegment>> DeviceSegment::create_layer(OpenDevice& device,
                                                                   const std::shared_ptr<const KvSegment>& segment,
                                                                   int rows) {
  std::unique_ptr<DeviceSegment> out(new DeviceSegment);
  out->segment_ = segment;
  out->context_.reset(ggml_init({.mem_size = 3 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
  if (!out->context_) return fail(ErrorKind::kOverloaded, "no memory for the tensors of a KV segment");
  rows = padded_rows(rows);
  const auto tensor = [&] {
    return ggml_new_tensor_3d(out->context_.get(), ggml_type_of(segment->type()), segment->head_dim(), rows,
                              segment->n_kv_heads());
  };
  out->layers_.assign(static_cast<std::size_t>(segment->n_layers()), {.k = tensor(), .v = tensor(), .rows = rows});
  CELSLM_TRY(out->buffer_, device.allocate(out->context_.get(), fmt::format("a layer's KV of {} tokens", rows)));
  return out;
}

void DeviceSegment::upload(int layer, int length) {
  const auto segment = segment_.lock();
  Layer& to = layers_[static_cast<std::size_t>(layer)];
  const std::uint32_t writes = segment->writes(layer);  // before the rows are read: a later write is seen the next time
  if (to.writes != writes) to.valid = 0;
  if (to.valid >= length) return;
  const KvView view = segment->view(layer);
  const int first = to.valid;
  set_rows(to.k, view.k, *segment, view.capacity, first, length);
  if (use_ == SegmentUse::kContext) {
    set_transposed(to, view);
  } else {
    set_rows(to.v, view.v, *segment, view.capacity, first, length);
  }
  to.valid = length;
  to.writes = writes;
}

void DeviceSegment::computed(int layer, int length) {
  Layer& of = layers_[static_cast<std::size_t>(layer)];
  of.valid = length;
  of.writes = segment_.lock()->writes(layer);
}

// Rows [first, last) of every head; a segment and its copy have different strides from head to head.
void DeviceSegment::set_rows(ggml_tensor* to, const void* from, const KvSegment& segment, int capacity, int first,
                             int last) {
  const std::size_t row = row_bytes(segment.type(), segment.head_dim());
  const auto skipped = static_cast<std::size_t>(first) * row;
  ggml_backend_tensor_set_2d(to, static_cast<const std::byte*>(from) + skipped, skipped,
                             static_cast<std::size_t>(last - first) * row, static_cast<std::size_t>(segment.n_kv_heads()),
                             to->nb[2], static_cast<std::size_t>(capacity) * row);
}

// A context is uploaded once and read for every token of everybody: it is turned here.
void DeviceSegment::set_transposed(const Layer& layer, const KvView& view) {
  const auto dim = static_cast<std::size_t>(layer.v->ne[1]);
  const auto heads = static_cast<std::size_t>(layer.v->ne[2]);
  const auto n = static_cast<std::size_t>(layer.rows);
  const std::size_t row = row_bytes(view.type, static_cast<int>(dim));
  std::vector<float> values(dim);
  std::vector<float> turned(n * dim);
  std::vector<std::byte> narrow(layer.v->type == GGML_TYPE_F16 ? 2 * turned.size() : 0);
  for (std::size_t head = 0; head < heads; ++head) {
    const auto* base = static_cast<const std::byte*>(view.v) + head * static_cast<std::size_t>(view.capacity) * row;
    for (std::size_t i = 0; i < static_cast<std::size_t>(view.length); ++i) {
      widen(view.type, base + i * row, values);
      for (std::size_t d = 0; d < dim; ++d) turned[d * n + i] = values[d];
    }
    const void* data = turned.data();
    if (!narrow.empty()) {
      f16_from_f32(turned.data(), narrow.data(), turned.size());
      data = narrow.data();
    }
    ggml_backend_tensor_set(layer.v, data, head * layer.v->nb[2], layer.v->nb[2]);
  }
}

void DeviceSegments::begin() {
  ++batch_;
  std::erase_if(entries_, [](const Entry& entry) { return entry.held->segment() == nullptr; });
}

bool DeviceSegments::fits(const Entry& entry, SegmentUse use, int rows) const {
  const DeviceSegment& held = *entry.held;
  const auto segment = held.segment();
  if (held.use() != use) return false;
  for (int layer = 0; layer < segment->n_layers(); ++layer) {
    const int wanted = use == SegmentUse::kContext ? context_rows(*segment, layer) : rows;
    if (use == SegmentUse::kContext ? held.rows(layer) != wanted : held.rows(layer) < wanted) return false;
  }
  return true;
}

bool DeviceSegments::evict_one() {
  const auto oldest = std::ranges::min_element(entries_, {}, &Entry::used);
  if (oldest == entries_.end() || oldest->used == batch_) return false;
  entries_.erase(oldest);
  return true;
}

Result<DeviceSegment*> DeviceSegments::get(const std::shared_ptr<const KvSegment>& segment, SegmentUse use, int rows) {
  const auto found = std::ranges::find_if(
      entries_, [&](const Entry& entry) { return entry.key == segment.get() && entry.held->use() == use; });
  if (found != entries_.end() && fits(*found, use, rows)) {
    found->used = batch_;
    return found->held.get();
  }
  if (found != entries_.end()) entries_.erase(found);
  for (;;) {
    auto made = DeviceSegment::create(*device_, segment, use, rows);
    if (made) {
      entries_.push_back({.key = segment.get(), .held = *std::move(made), .used = batch_});
      return entries_.back().held.get();
    }
    if (made.error().kind != ErrorKind::kOverloaded || !evict_one()) return std::unexpected(made.error());
  }
}

}  // namespace celslm
