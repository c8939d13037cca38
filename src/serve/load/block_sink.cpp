#include "serve/load/block_sink.h"

#include <new>

#include "serve/load/block_import.h"

namespace celslm {

void BlockSink::announced(int first, std::span<const BlockEntry> entries) {
  keeper_.announce(first, entries);
  report_keeping();
  if (!leftover_) return;
  for (const BlockEntry& entry : entries) {
    const auto block = leftover_->block(first++, entry);
    if (block && state_.claim(block->index()) && write(*block, Source::kDisk)) keep(*block);
  }
}

Status BlockSink::place(const VerifiedBlock& block) {
  try {
    if (state_parts_) return state_parts_->add(block);
    return studied_ ? studied_->add(block) : import_block(*parts_.model, identity_, block, *context_.segment);
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kOverloaded, "there is no memory to decode block {}", block.index());
  }
}

Status BlockSink::write(const VerifiedBlock& block, Source source) {
  const Status imported = place(block);
  if (imported) {
    state_.written(block.index(), source);
  } else {
    state_.released(block.index());
  }
  return imported;
}

void BlockSink::write_computed(int layer, std::span<const int> blocks, KvSegment& from) {
  if (studied_ && !blocks.empty()) {
    if (const Status written = studied_->compute(layer, from); !written) {
      parts_.log->warn("a computed layer is lost: {}", written.error().message);
      for (const int block : blocks) state_.released(block);
      return;
    }
  }
  if (from.foreign()) {
    if (!blocks.empty()) context_.segment->set_foreign(from.foreign());
  } else if (!studied_) {
    for (const int block : blocks) copy_block(identity_, block, from, *context_.segment);
    // Nobody has read the layer, since it was not complete: it becomes one of the class of arithmetic computed here.
    if (!blocks.empty() && !may_mix(parts_, identity_)) {
      for (const int block : state_.blocks_written(layer)) copy_block(identity_, block, from, *context_.segment);
    }
  }
  state_.layer_written(blocks);
}

}  // namespace celslm
