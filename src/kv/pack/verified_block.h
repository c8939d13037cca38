// A block whose bytes are what its entry promises: the only form in which blocks are decoded, placed and written to disk, so
// that each is hashed exactly once.
#pragma once

#include <memory>
#include <span>

#include "core/bytes.h"
#include "core/result.h"
#include "kv/pack/pack.h"

namespace celslm {

// Immutable; copies share the bytes. That the entry is signed is for whoever announced it: parse_entry(), parse_header().
class VerifiedBlock {
 public:
  // Hashes the bytes. kInvalid if their number, kMismatch if their hash is not the entry's; the errors name the block.
  static Result<VerifiedBlock> check(int index, const BlockEntry& entry, Bytes bytes);
  // A block that was encoded here, to be written at `offset`, the end of the block before: its entry is made from it.
  static VerifiedBlock make(int index, std::uint64_t offset, Bytes bytes);

  int index() const { return index_; }
  const BlockEntry& entry() const { return entry_; }
  ByteView bytes() const { return *bytes_; }

 private:
  VerifiedBlock(int index, const BlockEntry& entry, Bytes bytes)
      : index_(index), entry_(entry), bytes_(std::make_shared<const Bytes>(std::move(bytes))) {}

  int index_;
  BlockEntry entry_;
  std::shared_ptr<const Bytes> bytes_;
};

// Decodes a block of K or V into `values`: [n_tokens][n_kv_heads][head_dim] of identity.shape(). kInvalid, naming the block,
// for what its codec refuses and for a block of places or of a state: decode_places() and decode_layer_state() are for
// those.
Status decode_block(const PackIdentity& identity, const VerifiedBlock& block, std::span<float> values);

}  // namespace celslm
