#include "serve/load/pack_keeper.h"

namespace celslm {

PackKeeper::PackKeeper(PackStore* store, PackIdentity identity, Log log)
    : store_(store),
      identity_(std::move(identity)),
      log_(std::move(log)),
      table_(static_cast<std::size_t>(identity_.n_blocks())),
      kept_(table_.size()) {}

void PackKeeper::give_up(const Error& why) {
  log_->warn("this pack will not be kept on disk: {}", why.message);
  store_ = nullptr;
  writer_.reset();
  waiting_.clear();
}

void PackKeeper::announce(int first, std::span<const BlockEntry> entries) {
  for (const BlockEntry& entry : entries) {
    const int index = first++;
    BlockEntry& slot = table_[static_cast<std::size_t>(index)];
    if (slot.bytes != 0) continue;
    slot = entry;
    if (const auto it = waiting_.find(index); it != waiting_.end()) {
      keep(index, it->second);
      waiting_.erase(it);
    }
  }
}

void PackKeeper::put(int index, ByteView bytes) {
  if (!wants(index)) return;
  if (table_[static_cast<std::size_t>(index)].bytes == 0) {
    waiting_[index].assign(bytes.begin(), bytes.end());
  } else {
    keep(index, bytes);
  }
}

void PackKeeper::keep(int index, ByteView bytes) {
  if (!wants(index)) return;
  const BlockEntry& entry = table_[static_cast<std::size_t>(index)];
  if (!check_block(entry, bytes)) return;
  if (!writer_) {
    auto made = store_->create(identity_);
    if (!made) return give_up(made.error());
    writer_ = *std::move(made);
  }
  if (const Status put = writer_->put(index, entry, bytes); !put) return give_up(put.error());
  kept_[static_cast<std::size_t>(index)] = true;
  ++n_kept_;
}

void PackKeeper::put_computed(int layer, std::span<const float> k, std::span<const float> v) {
  const auto codec = find_codec(identity_.codec);
  if (!codec) return;
  const std::size_t width = k.size() / static_cast<std::size_t>(identity_.n_tokens());
  for (int chunk = 0; chunk < identity_.n_chunks(); ++chunk) {
    for (const BlockKind kind : {BlockKind::kKey, BlockKind::kValue}) {
      const int index = block_index(identity_, {layer, kind, chunk});
      if (!wants(index)) continue;
      const BlockShape shape = identity_.shape(kind, chunk);
      const auto rows = (kind == BlockKind::kKey ? k : v)
                            .subspan(static_cast<std::size_t>(chunk * identity_.block_tokens()) * width,
                                     static_cast<std::size_t>(shape.n_tokens) * width);
      if (auto bytes = (*codec)->encode(shape, rows)) put(index, *bytes);
    }
  }
}

Status PackKeeper::commit(ByteView header) {
  return writer_ ? writer_->commit(header) : fail(ErrorKind::kInternal, "no block was kept");
}

}  // namespace celslm
