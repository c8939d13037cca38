// Where the blocks of a load go: into the context's memory, and to the pack on disk.
#pragma once

#include <optional>
#include <span>

#include "core/result.h"
#include "kv/store/pack_store.h"
#include "serve/load/load_state.h"
#include "serve/load/pack_keeper.h"
#include "serve/load/state_parts.h"
#include "serve/load/studied_layers.h"

namespace celslm {

// Thread-safe once set_leftover() has been called. Everything it is given must outlive it.
class BlockSink {
 public:
  BlockSink(const LoadParts& parts, ResidentContext& context, const PackIdentity& identity, LoadState& state,
            PackKeeper& keeper)
      : parts_(parts), context_(context), identity_(identity), state_(state), keeper_(keeper) {
    if (identity.studied()) studied_.emplace(*parts.model, identity, *context.segment);
    if (identity.opaque()) state_parts_.emplace(identity, *context.segment);
  }

  // What an earlier load left of this pack on disk: used as soon as a source has announced what its blocks should be.
  void set_leftover(PackPart part) { leftover_ = std::move(part); }

  // What a source announced: blocks of the leftover that are just that are used.
  void announced(int first, std::span<const BlockEntry> entries);
  // Writes a block that the caller has claimed. Where it cannot be decoded, it is missing again.
  Status write(const VerifiedBlock& block, Source source);
  // Writes blocks of a layer that was computed here, which the caller has claimed. Where there is no memory for it, they are
  // missing again.
  void write_computed(int layer, std::span<const int> blocks, KvSegment& from);
  // A block from somewhere else than this disk.
  void keep(const VerifiedBlock& block) {
    keeper_.put(block);
    report_keeping();
  }
  // Nothing more is announced.
  void drop_leftover() { leftover_.reset(); }
  void count_network_bytes(Source from, std::size_t bytes) {
    context_.add_bytes(bytes);
    if (parts_.observer) parts_.observer->received(from, bytes);
  }

 private:
  void report_keeping() { state_.keeping({.wants_blocks = keeper_.wants_anything(), .complete = keeper_.complete()}); }
  Status place(const VerifiedBlock& block);

  const LoadParts& parts_;
  ResidentContext& context_;
  const PackIdentity& identity_;
  LoadState& state_;
  PackKeeper& keeper_;
  std::optional<StudiedLayers> studied_;   // of a studied pack
  std::optional<StateParts> state_parts_;  // of an opaque pack
  std::optional<PackPart> leftover_;
};

}  // namespace celslm
