#include "kv/pack/places.h"

#include <algorithm>
#include <cstring>

#include "model/kv/condensed_kv.h"

namespace celslm {
namespace {

Result<RowPlaces> decode(const PackIdentity& identity, const BlockRef& ref, ByteView bytes) {
  const std::size_t n = identity.shape(ref.kind, ref.chunk).rows();
  if (ref.kind != BlockKind::kPlaces) return fail(ErrorKind::kInvalid, "it has no places");
  if (bytes.size() != n * kPlaceBytes) return fail(ErrorKind::kInvalid, "{} bytes for {} places", bytes.size(), n);
  RowPlaces out(1, n);
  std::memcpy(out.positions.data(), bytes.data(), n * sizeof(std::int32_t));
  std::memcpy(out.log_mass.data(), bytes.data() + n * sizeof(std::int32_t), n * sizeof(float));
  CELSLM_CHECK_OK(check_positions(out.positions, identity.n_tokens()));
  CELSLM_CHECK_OK(check_log_mass(out.log_mass));
  return out;
}

}  // namespace

RowPlaces RowPlaces::rows(std::size_t first, std::size_t n, std::size_t n_kv_heads) const {
  RowPlaces out(n_kv_heads, n);
  for (std::size_t head = 0; head < n_kv_heads; ++head) {
    const std::size_t from = head * n_rows(n_kv_heads) + first;
    std::copy_n(positions.data() + from, n, out.positions.data() + head * n);
    std::copy_n(log_mass.data() + from, n, out.log_mass.data() + head * n);
  }
  return out;
}

void RowPlaces::put(std::size_t first, const RowPlaces& some, std::size_t n_kv_heads) {
  const std::size_t n = some.n_rows(n_kv_heads);
  for (std::size_t head = 0; head < n_kv_heads; ++head) {
    const std::size_t to = head * n_rows(n_kv_heads) + first;
    std::copy_n(some.positions.data() + head * n, n, positions.data() + to);
    std::copy_n(some.log_mass.data() + head * n, n, log_mass.data() + to);
  }
}

Bytes encode_places(const RowPlaces& places) {
  ByteWriter out;
  out.bytes(std::as_bytes(std::span(places.positions)));
  out.bytes(std::as_bytes(std::span(places.log_mass)));
  return out.take();
}

Result<RowPlaces> decode_places(const PackIdentity& identity, const VerifiedBlock& block) {
  const BlockRef ref = block_ref(identity, block.index());
  auto out = decode(identity, ref, block.bytes());
  return out ? std::move(out) : wrap(std::move(out).error(), describe(ref));
}

}  // namespace celslm
