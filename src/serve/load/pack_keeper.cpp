#include "serve/load/pack_keeper.h"

#include <optional>

namespace celslm {

PackKeeper::PackKeeper(NewPack new_pack, PackIdentity identity, Log log)
    : identity_(std::move(identity)),
      log_(std::move(log)),
      new_pack_(std::move(new_pack)),
      table_(static_cast<std::size_t>(identity_.n_blocks())),
      kept_(table_.size()) {}

void PackKeeper::give_up(const Error& why) {
  log_->warn("this pack will not be kept on disk: {}", why.message);
  new_pack_ = nullptr;
  writer_.reset();
  waiting_.clear();
}

void PackKeeper::announce(int first, std::span<const BlockEntry> entries) {
  const MutexLock lock(mutex_);
  for (const BlockEntry& entry : entries) {
    const int block = first++;
    BlockEntry& slot = table_[static_cast<std::size_t>(block)];
    if (slot.bytes != 0) continue;
    slot = entry;
    if (auto waited = waiting_.extract(block)) keep(block, waited.mapped());
  }
}

void PackKeeper::put(int block, ByteView bytes) {
  const MutexLock lock(mutex_);
  if (!wants(block)) return;
  if (table_[static_cast<std::size_t>(block)].bytes == 0) {
    waiting_[block].assign(bytes.begin(), bytes.end());
  } else {
    keep(block, bytes);
  }
}

void PackKeeper::keep(int block, ByteView bytes) {
  if (!wants(block)) return;
  const BlockEntry& entry = table_[static_cast<std::size_t>(block)];
  if (!check_block(entry, bytes)) return;
  if (!writer_) {
    auto made = new_pack_(identity_);
    if (!made) return give_up(made.error());
    writer_ = *std::move(made);
  }
  if (const Status put = writer_->put(block, entry, bytes); !put) return give_up(put.error());
  kept_[static_cast<std::size_t>(block)] = true;
  ++n_kept_;
}

void PackKeeper::add_computed(int layer, std::vector<float> k, std::vector<float> v) {
  const MutexLock lock(computed_mutex_);
  if (!closed_) computed_.push_back({layer, std::move(k), std::move(v)});
}

void PackKeeper::close() {
  {
    const MutexLock lock(computed_mutex_);
    closed_ = true;
    computed_.clear();
  }
  const MutexLock lock(mutex_);
  new_pack_ = nullptr;
  writer_.reset();
  waiting_.clear();
}

bool PackKeeper::has_computed() const {
  const MutexLock lock(computed_mutex_);
  return !computed_.empty();
}

void PackKeeper::keep_computed() {
  for (;;) {
    ComputedLayer next;
    {
      const MutexLock lock(computed_mutex_);
      if (computed_.empty()) return;
      next = std::move(computed_.front());
      computed_.pop_front();
    }
    encode(next);
  }
}

bool PackKeeper::lacks(int block) const {
  const MutexLock lock(mutex_);
  return wants(block);
}

void PackKeeper::encode(const ComputedLayer& computed) {
  const auto codec = find_codec(identity_.codec);
  if (!codec) return;
  const std::size_t width = computed.k.size() / static_cast<std::size_t>(identity_.n_tokens());
  for (int chunk = 0; chunk < identity_.n_chunks(); ++chunk) {
    for (const BlockKind kind : {BlockKind::kKey, BlockKind::kValue}) {
      const int block = block_index(identity_, {computed.layer, kind, chunk});
      if (!lacks(block)) continue;
      const BlockShape shape = identity_.shape(kind, chunk);
      const auto rows = std::span(kind == BlockKind::kKey ? computed.k : computed.v)
                            .subspan(static_cast<std::size_t>(chunk * identity_.block_tokens()) * width,
                                     static_cast<std::size_t>(shape.n_tokens) * width);
      if (auto bytes = (*codec)->encode(shape, rows)) put(block, *bytes);
    }
  }
}

bool PackKeeper::wants_anything() const {
  const MutexLock lock(mutex_);
  return new_pack_ && n_kept_ < identity_.n_blocks();
}

bool PackKeeper::complete() const {
  const MutexLock lock(mutex_);
  return new_pack_ && n_kept_ == identity_.n_blocks();
}

Status PackKeeper::commit(ByteView header) {
  const MutexLock lock(mutex_);
  return writer_ ? writer_->commit(header) : fail(ErrorKind::kInternal, "no block was kept");
}

}  // namespace celslm
