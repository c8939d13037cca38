// Keeps on disk what was loaded, so that the next start need not load it again.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "core/log.h"
#include "core/mutex.h"
#include "kv/pack/verified_block.h"
#include "kv/store/pack_writer.h"
#include "serve/load/disk_thread.h"

namespace celslm {

// Begins to write a pack, as PackStore::create().
using NewPack = std::function<Result<std::unique_ptr<PackWriter>>(const PackIdentity&)>;

// One pack's blocks, as they come from sources or were computed here. A block is kept if it is what the cloud signed: a
// computed one that is not (another kind of CPU rounds otherwise) leaves the pack unfinished. Thread-safe. No function waits
// for the disk: blocks are written on `disk`, and whatever fails there (also to keep up with what arrives) ends the keeping,
// and nothing else. Codec work is done on the caller's thread.
class PackKeeper {
 public:
  // new_pack may be empty: nothing is kept, and disk may be null. It is called on the disk's thread, also after this is
  // gone.
  PackKeeper(NewPack new_pack, PackIdentity identity, std::shared_ptr<DiskThread> disk, Log log);
  ~PackKeeper() { close(); }
  PackKeeper(const PackKeeper&) = delete;
  PackKeeper& operator=(const PackKeeper&) = delete;

  // What the cloud signed for these blocks; the first announcement of a block counts.
  void announce(int first, std::span<const BlockEntry> entries) CELSLM_EXCLUDES(mutex_);
  // A block of a source, whose entry counts as announced.
  void put(const VerifiedBlock& block) CELSLM_EXCLUDES(mutex_);
  // K before RoPE and V of all tokens of a layer, [n_tokens][kv_width] both: to be encoded by keep_computed(), which takes
  // longer than the engine's thread should wait. Of a recurrent layer k is its state, and v is empty. Without memory for
  // them the pack stays unfinished.
  void add_computed(int layer, std::vector<float> k, std::vector<float> v) CELSLM_EXCLUDES(computed_mutex_);
  void keep_computed() CELSLM_EXCLUDES(mutex_, computed_mutex_);
  bool has_computed() const CELSLM_EXCLUDES(computed_mutex_);  // that keep_computed() has not taken yet
  // Nothing more is kept. What was put, and a commit, are still written; what was written of an unfinished pack is left for
  // the next load of it.
  void close() CELSLM_EXCLUDES(mutex_, computed_mutex_);

  bool wants_anything() const CELSLM_EXCLUDES(mutex_);
  bool complete() const CELSLM_EXCLUDES(mutex_);  // every block is written or waits for the disk
  // Finishes the pack, which is complete, behind its blocks; what fails on disk then is logged. kMismatch, with nothing
  // done, for the header of other blocks.
  Status commit(Bytes header) CELSLM_EXCLUDES(mutex_);

 private:
  class Writing;
  struct ComputedLayer {
    int layer = 0;
    std::vector<float> k;
    std::vector<float> v;
    MemoryLease memory;
  };
  bool active() const CELSLM_REQUIRES(mutex_);  // blocks are kept
  bool wants(int block) const CELSLM_REQUIRES(mutex_) { return active() && !kept_[static_cast<std::size_t>(block)]; }
  bool lacks(int block) const CELSLM_EXCLUDES(mutex_);
  void encode(const ComputedLayer& computed) CELSLM_EXCLUDES(mutex_);
  void put_computed(int block, Bytes bytes) CELSLM_EXCLUDES(mutex_);
  void keep(const VerifiedBlock& block) CELSLM_REQUIRES(mutex_);
  void check_and_keep(int block, Bytes bytes) CELSLM_REQUIRES(mutex_);
  bool post(std::size_t bytes, std::function<void(Writing&)> work) CELSLM_REQUIRES(mutex_);

  const PackIdentity identity_;
  const std::shared_ptr<DiskThread> disk_;
  mutable Mutex mutex_;
  std::shared_ptr<Writing> writing_ CELSLM_GUARDED_BY(mutex_);  // null: nothing is kept
  std::vector<BlockEntry> table_ CELSLM_GUARDED_BY(mutex_);     // [n_blocks]; bytes == 0: not announced yet
  std::vector<bool> kept_ CELSLM_GUARDED_BY(mutex_);            // [n_blocks]
  std::map<int, Bytes> waiting_ CELSLM_GUARDED_BY(mutex_);      // computed blocks whose entries are not announced yet
  int n_kept_ CELSLM_GUARDED_BY(mutex_) = 0;
  mutable Mutex computed_mutex_;
  std::deque<ComputedLayer> computed_ CELSLM_GUARDED_BY(computed_mutex_);
  bool closed_ CELSLM_GUARDED_BY(computed_mutex_) = false;
};

}  // namespace celslm
