#include "serve/load/block_sink.h"

#include <new>

#include "serve/load/block_import.h"

namespace celslm {

void BlockSink::announced(int first, std::span<const BlockEntry> entries) {
  keeper_.announce(first, entries);
  report_keeping();
  if (!leftover_) return;
  for (const BlockEntry& entry : entries) {
    const int block = first++;
    const ByteView bytes = leftover_->block(entry);
    if (bytes.empty() || !check_block(entry, bytes) || !state_.claim(block)) continue;
    if (write(block, entry, bytes, Source::kDisk)) keep(block, bytes);
  }
}

Status BlockSink::place(int block, const BlockEntry& entry, ByteView bytes) {
  try {
    return studied_ ? studied_->add(block, entry, bytes)
                    : import_block(*parts_.model, identity_, block, entry, bytes, *context_.segment);
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kOverloaded, "there is no memory to decode block {}", block);
  }
}

Status BlockSink::write(int block, const BlockEntry& entry, ByteView bytes, Source source) {
  const Status imported = place(block, entry, bytes);
  if (imported) {
    state_.written(block, source);
  } else {
    state_.released(block);
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
  if (!studied_) {
    for (const int block : blocks) copy_block(identity_, block, from, *context_.segment);
  }
  state_.layer_written(blocks);
}

}  // namespace celslm
