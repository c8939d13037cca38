#include "align/condense/context_rows.h"

#include <cstring>

#include "model/numeric/convert.h"

namespace celslm {
namespace {

MatrixF widened(KvType type, const void* rows, Eigen::Index length, Eigen::Index head_dim) {
  MatrixF out(length, head_dim);
  const auto n = static_cast<std::size_t>(out.size());
  if (type == KvType::kF32)
    std::memcpy(out.data(), rows, n * sizeof(float));
  else
    f32_from_f16(static_cast<const std::byte*>(rows), out.data(), n);
  return out;
}

}  // namespace

Result<HeadRows> head_rows(const KvSegment& segment, int layer, int kv_head) {
  if (segment.type() != KvType::kF16 && segment.type() != KvType::kF32)
    return fail(ErrorKind::kInvalid, "KV of type {}; expected f16 or f32", to_string(segment.type()));
  const KvView view = segment.view(layer);
  const std::size_t offset = static_cast<std::size_t>(kv_head) * static_cast<std::size_t>(view.capacity) *
                             row_bytes(segment.type(), segment.head_dim());
  const auto part = [&](const void* data) {
    return widened(segment.type(), static_cast<const std::byte*>(data) + offset, view.length, segment.head_dim());
  };
  return HeadRows{.k = part(view.k), .v = part(view.v)};
}

}  // namespace celslm
