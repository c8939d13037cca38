#include "serve/pack_fetch.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "model/engine.h"

namespace celslm {
namespace {

constexpr std::uint64_t kGroupBytes =
    256U << 10;  // small enough that all connections work on the same layer, large enough for few round trips

// Counts the blocks of each layer that are in, over all connections.
class LayerProgress {
 public:
  explicit LayerProgress(const PackIdentity& identity)
      : missing_(identity.model.n_layers), per_layer_(2 * identity.n_chunks()) {
    for (auto& m : missing_) m.store(per_layer_, std::memory_order_relaxed);
  }
  // True for the block that completes its layer. Orders all blocks' writes before the caller's publication.
  bool block_in(int layer) { return missing_[static_cast<std::size_t>(layer)].fetch_sub(1, std::memory_order_acq_rel) == 1; }

 private:
  std::vector<std::atomic<int>> missing_;
  const int per_layer_;
};

// The work of one pack's connections. The first error closes the queue, which ends the others.
class Transfer {
 public:
  Transfer(const PackFetch& fetch, const PackName& name, const PackIdentity& identity, PackStore::Writer* writer,
           BlockQueue& queue)
      : fetch_(fetch), name_(name), identity_(identity), writer_(writer), queue_(queue), progress_(identity) {}

  void work(std::stop_token stop) {
    while (!stop.stop_requested()) {
      auto group = queue_.take();
      if (!group || !group->has_value()) return;
      if (auto status = fetch_group(std::move(**group), stop); !status) {
        queue_.close(status.error());
        return;
      }
    }
  }

 private:
  // A second try, on a fresh connection, absorbs a cut one; what fails twice is given up. Blocks that are in stay in.
  Status fetch_group(BlockQueue::Group group, std::stop_token stop) {
    Status status = try_group(group, stop);
    const bool again = !status && status.error().kind != ErrorKind::kCancelled && !stop.stop_requested();
    return again ? try_group(group, stop) : status;
  }

  // Takes out of the group what it has used.
  Status try_group(BlockQueue::Group& group, std::stop_token stop) {
    CELSLM_TRY(const Bytes bytes, fetch_.cloud.blocks(name_, group.range(), stop));
    fetch_.context.add_bytes(bytes.size());
    const std::uint64_t start = group.range().first;
    while (!group.entries.empty()) {
      const BlockEntry entry = group.entries.front();
      CELSLM_CHECK_OK(use_block(group.first, entry, ByteView(bytes).subspan(entry.offset - start, entry.bytes)));
      group.entries.erase(group.entries.begin());
      ++group.first;
    }
    return {};
  }

  Status use_block(int index, const BlockEntry& entry, ByteView bytes) {
    const int layer = block_ref(identity_, index).layer;
    // A layer that another source filled is being read: it is checked, kept on disk, and left alone in memory.
    const bool filled = fetch_.context.filled(layer);
    CELSLM_CHECK_OK(filled ? check_block(entry, bytes)
                           : import_block(fetch_.model, identity_, index, entry, bytes, *fetch_.context.segment));
    if (writer_ != nullptr) {
      if (auto kept = writer_->put(index, entry, bytes); !kept && !warned_.exchange(true)) {
        fetch_.log->warn("this pack will not be kept on disk: {}", kept.error().message);
      }
    }
    if (progress_.block_in(layer) && !filled) fetch_.context.layer_filled(layer, {identity_.provenance, Source::kCloud});
    return {};
  }

  const PackFetch& fetch_;
  const PackName& name_;
  const PackIdentity& identity_;
  PackStore::Writer* const writer_;
  BlockQueue& queue_;
  LayerProgress progress_;
  std::atomic<bool> warned_{false};
};

// Announces a pack's entries into the queue while the cloud computes them; the last word closes the queue.
void follow_entries(CloudClient& cloud, const PackName& name, const PackIdentity& identity, BlockQueue& queue,
                    std::stop_token stop) {
  const auto announce = [&](const SignedEntry& entry) {
    queue.announce(entry.entry);
    return !stop.stop_requested();
  };
  const Status status = cloud.entries(name, identity, 0, announce, stop);
  // With every entry here the pack is usable, however the stream ended.
  const bool all = static_cast<int>(queue.entries().size()) == identity.n_blocks();
  queue.close(status || all ? std::nullopt : std::optional(status.error()));
}

}  // namespace

Status import_block(const Model& model, const PackIdentity& identity, int index, const BlockEntry& entry, ByteView bytes,
                    KvSegment& segment) {
  const BlockRef ref = block_ref(identity, index);
  const BlockShape shape = identity.shape(ref.kind, ref.chunk);
  std::vector<float> values(shape.values());
  CELSLM_CHECK_OK(decode_block(identity, ref, entry, bytes, values));
  const bool key = ref.kind == BlockKind::kKey;
  return Engine::import_rows(model, segment, ref.layer, ref.chunk * identity.block_tokens(), shape.n_tokens,
                             key ? std::span<const float>(values) : std::span<const float>(),
                             key ? std::span<const float>() : std::span<const float>(values));
}

BlockQueue::BlockQueue(const PackIdentity& identity) : identity_(identity) {
  entries_.reserve(static_cast<std::size_t>(identity.n_blocks()));
}

void BlockQueue::announce(const BlockEntry& entry) {
  const std::scoped_lock lock(mutex_);
  entries_.push_back(entry);
  more_.notify_all();
}

void BlockQueue::close(std::optional<Error> error) {
  const std::scoped_lock lock(mutex_);
  if (!error_) error_ = std::move(error);
  closed_ = true;
  more_.notify_all();
}

Result<std::optional<BlockQueue::Group>> BlockQueue::take() {
  std::unique_lock lock(mutex_);
  const int total = identity_.n_blocks();
  more_.wait(lock, [&] { return closed_ || next_ < static_cast<int>(entries_.size()) || next_ == total; });
  if (error_) return std::unexpected(*error_);
  if (next_ == total) return std::optional<Group>();
  if (next_ == static_cast<int>(entries_.size()))
    return fail(ErrorKind::kInternal, "block queue closed before every block was announced");
  Group group{.first = next_};
  const int layer = block_ref(identity_, next_).layer;
  std::uint64_t bytes = 0;
  while (next_ < static_cast<int>(entries_.size()) && block_ref(identity_, next_).layer == layer &&
         (bytes == 0 || bytes < kGroupBytes)) {
    const BlockEntry& entry = entries_[static_cast<std::size_t>(next_)];
    const bool adjacent = group.entries.empty() || entry.offset == group.range().end;
    if (!adjacent) break;
    group.entries.push_back(entry);
    bytes += entry.bytes;
    ++next_;
  }
  return std::optional(std::move(group));
}

std::vector<BlockEntry> BlockQueue::entries() const {
  const std::scoped_lock lock(mutex_);
  return entries_;
}

Status PackFetch::run(const PackName& name, const PackIdentity& expected, std::stop_token stop) {
  CELSLM_TRY(auto opened, cloud.open(name, stop));
  if (const std::string difference = expected.difference(opened.identity); !difference.empty()) {
    return fail(ErrorKind::kMismatch, "{} offers a pack that is not ours: {}", cloud.url(), difference);
  }
  std::unique_ptr<PackStore::Writer> writer;
  if (store != nullptr) {
    if (auto made = store->create(expected)) {
      writer = *std::move(made);
    } else {
      log->warn("this pack will not be kept on disk: {}", made.error().message);
    }
  }

  BlockQueue queue(expected);
  Transfer transfer(*this, name, expected, writer.get(), queue);
  {
    std::vector<std::jthread> threads;
    std::stop_source cut;  // ours, so that one connection's failure stops the others
    const std::stop_callback forward(stop, [&] { cut.request_stop(); });
    if (opened.header.empty()) {
      threads.emplace_back([&] { follow_entries(cloud, name, expected, queue, cut.get_token()); });
    } else {
      for (const BlockEntry& entry : opened.blocks) queue.announce(entry);
      queue.close(std::nullopt);
    }
    std::vector<std::jthread> workers;
    workers.reserve(static_cast<std::size_t>(n_connections));
    for (int i = 0; i < n_connections; ++i) workers.emplace_back([&] { transfer.work(cut.get_token()); });
    workers.clear();  // joins
    // The entries' stream ends by itself when the cloud has kept the pack, so that its header is there below.
    if (!queue.take()) cut.request_stop();
  }
  if (stop.stop_requested()) return fail(ErrorKind::kCancelled, "loading was stopped");
  if (auto rest = queue.take(); !rest) return std::unexpected(rest.error());
  if (!context.complete()) return fail(ErrorKind::kInternal, "a pack was fetched whole but its context is not");

  if (writer) {
    if (opened.header.empty()) {
      if (auto finished = cloud.open(name, stop); finished) opened.header = std::move(finished->header);
    }
    const Status kept = opened.header.empty() ? fail(ErrorKind::kUnavailable, "the cloud has not finished its header")
                                              : writer->commit(opened.header);
    if (!kept) log->warn("this pack will not be kept on disk: {}", kept.error().message);
  }
  return {};
}

}  // namespace celslm
