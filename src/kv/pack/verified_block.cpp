#include "kv/pack/verified_block.h"

#include <fmt/format.h>

namespace celslm {

Result<VerifiedBlock> VerifiedBlock::check(int index, const BlockEntry& entry, Bytes bytes) {
  if (bytes.size() != entry.bytes)
    return fail(ErrorKind::kInvalid, "block {} has {} bytes; expected {}", index, bytes.size(), entry.bytes);
  if (hash_of(bytes) == entry.hash) return VerifiedBlock(index, entry, std::move(bytes));
  return fail(ErrorKind::kMismatch, "block {} does not match its signed hash", index);
}

VerifiedBlock VerifiedBlock::make(int index, std::uint64_t offset, Bytes bytes) {
  const BlockEntry entry = make_entry(offset, bytes);
  return VerifiedBlock(index, entry, std::move(bytes));
}

Status decode_block(const PackIdentity& identity, const VerifiedBlock& block, std::span<float> values) {
  const BlockRef ref = block_ref(identity, block.index());
  if (ref.kind == BlockKind::kPlaces) return fail(ErrorKind::kInvalid, "a block of places has no values");
  if (ref.kind == BlockKind::kLayerState) return fail(ErrorKind::kInvalid, "{} has no rows", describe(ref));
  CELSLM_TRY(const Codec* const codec, find_codec(identity.codec));
  auto status = codec->decode(identity.shape(ref.kind, ref.chunk), block.bytes(), values);
  if (!status) return wrap(std::move(status).error(), describe(ref));
  return {};
}

}  // namespace celslm
