#include "serve/load/pack_keeper.h"

#include <utility>

#include "kv/pack/layer_state.h"

namespace celslm {

// The pack's file. Used on the disk's thread, but for given_up.
class PackKeeper::Writing {
 public:
  Writing(NewPack new_pack, PackIdentity identity, Log log)
      : new_pack_(std::move(new_pack)), identity_(std::move(identity)), log_(std::move(log)) {}

  bool given_up() const { return given_up_.load(); }
  void give_up(const Error& why) {
    if (!given_up_.exchange(true)) log_->warn("this pack will not be kept on disk: {}", why.message);
  }

  void put(const VerifiedBlock& block) {
    if (const Status written = try_put(block); !written) fail_with(written.error());
  }
  void commit(ByteView header) {
    if (given_up()) return;
    const Status finished = writer_ ? writer_->commit(header) : fail(ErrorKind::kInternal, "no block was kept");
    if (!finished) fail_with(finished.error());
  }

 private:
  Status try_put(const VerifiedBlock& block) {
    if (!writer_ && !given_up()) {
      CELSLM_TRY(writer_, new_pack_(identity_));
    }
    if (given_up()) return {};  // while the file was made, which a slow disk takes its time for
    return writer_->put(block);
  }
  void fail_with(const Error& why) {
    give_up(why);
    writer_.reset();
  }

  const NewPack new_pack_;
  const PackIdentity identity_;
  const Log log_;
  std::atomic<bool> given_up_{false};
  std::unique_ptr<PackWriter> writer_;
};

PackKeeper::PackKeeper(NewPack new_pack, PackIdentity identity, std::shared_ptr<DiskThread> disk, Log log)
    : identity_(std::move(identity)),
      disk_(std::move(disk)),
      writing_(new_pack ? std::make_shared<Writing>(std::move(new_pack), identity_, std::move(log)) : nullptr),
      table_(static_cast<std::size_t>(identity_.n_blocks())),
      kept_(table_.size()) {}

// Closing a file, and removing one that was not finished, is work for the disk's thread, too.
void PackKeeper::close() {
  {
    const MutexLock lock(computed_mutex_);
    closed_ = true;
    computed_.clear();
  }
  const MutexLock lock(mutex_);
  waiting_.clear();
  if (writing_) disk_->post(0, [writing = std::exchange(writing_, nullptr)] {});
}

bool PackKeeper::active() const {
  return writing_ && !writing_->given_up();
}

void PackKeeper::announce(int first, std::span<const BlockEntry> entries) {
  const MutexLock lock(mutex_);
  for (const BlockEntry& entry : entries) {
    const int block = first++;
    BlockEntry& slot = table_[static_cast<std::size_t>(block)];
    if (slot.bytes != 0) continue;
    slot = entry;
    if (auto waited = waiting_.extract(block)) check_and_keep(block, std::move(waited.mapped()));
  }
}

void PackKeeper::put(const VerifiedBlock& block) {
  const MutexLock lock(mutex_);
  BlockEntry& slot = table_[static_cast<std::size_t>(block.index())];
  if (slot.bytes == 0) slot = block.entry();
  keep(block);
}

void PackKeeper::put_computed(int block, Bytes bytes) {
  const MutexLock lock(mutex_);
  if (!wants(block)) return;
  if (table_[static_cast<std::size_t>(block)].bytes == 0) {
    waiting_[block] = std::move(bytes);
  } else {
    check_and_keep(block, std::move(bytes));
  }
}

void PackKeeper::check_and_keep(int block, Bytes bytes) {
  if (!wants(block)) return;
  if (const auto checked = VerifiedBlock::check(block, table_[static_cast<std::size_t>(block)], std::move(bytes)))
    keep(*checked);
}

void PackKeeper::keep(const VerifiedBlock& block) {
  const auto index = static_cast<std::size_t>(block.index());
  if (!wants(block.index()) || table_[index] != block.entry()) return;
  if (!post(block.bytes().size(), [block](Writing& writing) { writing.put(block); })) return;
  kept_[index] = true;
  ++n_kept_;
}

bool PackKeeper::post(std::size_t bytes, std::function<void(Writing&)> work) {
  if (disk_->post(bytes, [writing = writing_, work = std::move(work)] { work(*writing); })) return true;
  writing_->give_up({ErrorKind::kOverloaded, "the disk does not keep up with what arrives"});
  waiting_.clear();
  return false;
}

void PackKeeper::add_computed(int layer, std::vector<float> k, std::vector<float> v) {
  if (!disk_) return;  // nothing is kept
  auto memory = disk_->take((k.size() + v.size()) * sizeof(float));
  const MutexLock lock(computed_mutex_);
  if (memory && !closed_) computed_.push_back({layer, std::move(k), std::move(v), *std::move(memory)});
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
  if (identity_.model.state_bytes(computed.layer) > 0) {
    const int block = block_index(identity_, {computed.layer, BlockKind::kLayerState, 0});
    if (lacks(block)) put_computed(block, encode_layer_state(computed.k));
    return;
  }
  const std::size_t width = computed.k.size() / static_cast<std::size_t>(identity_.n_tokens());
  for (int chunk = 0; chunk < identity_.n_chunks(); ++chunk) {
    for (const BlockKind kind : {BlockKind::kKey, BlockKind::kValue}) {
      const int block = block_index(identity_, {computed.layer, kind, chunk});
      if (!lacks(block)) continue;
      const BlockShape shape = identity_.shape(kind, chunk);
      const auto rows = std::span(kind == BlockKind::kKey ? computed.k : computed.v)
                            .subspan(static_cast<std::size_t>(chunk * identity_.block_tokens()) * width,
                                     static_cast<std::size_t>(shape.n_tokens) * width);
      if (auto bytes = (*codec)->encode(shape, rows)) put_computed(block, *std::move(bytes));
    }
  }
}

bool PackKeeper::wants_anything() const {
  const MutexLock lock(mutex_);
  return active() && n_kept_ < identity_.n_blocks();
}

bool PackKeeper::complete() const {
  const MutexLock lock(mutex_);
  return active() && n_kept_ == identity_.n_blocks();
}

Status PackKeeper::commit(Bytes header) {
  CELSLM_TRY(const PackHeader parsed, parse_header_unverified(header));
  const MutexLock lock(mutex_);
  if (!active()) return fail(ErrorKind::kUnavailable, "it is not kept any more");
  if (parsed.blocks != table_) return fail(ErrorKind::kMismatch, "the header has other blocks than those that came");
  const std::size_t size = header.size();
  post(size, [header = std::move(header)](Writing& writing) { writing.commit(header); });
  return {};
}

}  // namespace celslm
