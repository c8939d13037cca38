// Keeps on disk what was loaded, so that the next start need not load it again.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "core/log.h"
#include "core/mutex.h"
#include "kv/pack/pack.h"
#include "kv/store/pack_writer.h"

namespace celslm {

// Begins to write a pack, as PackStore::create().
using NewPack = std::function<Result<std::unique_ptr<PackWriter>>(const PackIdentity&)>;

// One pack's blocks, as they come from sources or were computed here. A block is kept if it is what the cloud signed: a
// computed one that is not (another kind of CPU rounds otherwise) leaves the pack unfinished. Whatever fails on disk
// ends the keeping, and nothing else. Thread-safe; disk and codec work is done on the caller's thread.
class PackKeeper {
 public:
  // new_pack may be empty: nothing is kept.
  PackKeeper(NewPack new_pack, PackIdentity identity, Log log);

  // What the cloud signed for these blocks; the first announcement of a block counts.
  void announce(int first, std::span<const BlockEntry> entries) CELSLM_EXCLUDES(mutex_);
  void put(int block, ByteView bytes) CELSLM_EXCLUDES(mutex_);
  // K before RoPE and V of all tokens of a layer, [n_tokens][kv_width] both: to be encoded by keep_computed(), which takes
  // longer than the engine's thread should wait.
  void add_computed(int layer, std::vector<float> k, std::vector<float> v) CELSLM_EXCLUDES(computed_mutex_);
  void keep_computed() CELSLM_EXCLUDES(mutex_, computed_mutex_);
  bool has_computed() const CELSLM_EXCLUDES(computed_mutex_);  // that keep_computed() has not taken yet

  bool wants_anything() const CELSLM_EXCLUDES(mutex_);
  bool complete() const CELSLM_EXCLUDES(mutex_);
  // Nothing more is kept; what was written of an unfinished pack is left for the next load of it.
  void close() CELSLM_EXCLUDES(mutex_, computed_mutex_);
  // Finishes the pack, which is complete.
  Status commit(ByteView header) CELSLM_EXCLUDES(mutex_);

 private:
  struct ComputedLayer {
    int layer = 0;
    std::vector<float> k;
    std::vector<float> v;
  };
  bool wants(int block) const CELSLM_REQUIRES(mutex_) { return new_pack_ && !kept_[static_cast<std::size_t>(block)]; }
  bool lacks(int block) const CELSLM_EXCLUDES(mutex_);
  void encode(const ComputedLayer& computed) CELSLM_EXCLUDES(mutex_);
  void keep(int block, ByteView bytes) CELSLM_REQUIRES(mutex_);
  void give_up(const Error& why) CELSLM_REQUIRES(mutex_);

  const PackIdentity identity_;
  const Log log_;
  mutable Mutex mutex_;
  NewPack new_pack_ CELSLM_GUARDED_BY(mutex_);  // empty once given up
  std::unique_ptr<PackWriter> writer_ CELSLM_GUARDED_BY(mutex_);
  std::vector<BlockEntry> table_ CELSLM_GUARDED_BY(mutex_);  // [n_blocks]; bytes == 0: not announced yet
  std::vector<bool> kept_ CELSLM_GUARDED_BY(mutex_);         // [n_blocks]
  std::map<int, Bytes> waiting_ CELSLM_GUARDED_BY(mutex_);   // blocks whose entries are not announced yet
  int n_kept_ CELSLM_GUARDED_BY(mutex_) = 0;
  mutable Mutex computed_mutex_;
  std::deque<ComputedLayer> computed_ CELSLM_GUARDED_BY(computed_mutex_);
  bool closed_ CELSLM_GUARDED_BY(computed_mutex_) = false;
};

}  // namespace celslm
