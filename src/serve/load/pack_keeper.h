// Keeps on disk what was loaded, so that the next start need not load it again.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "core/log.h"
#include "kv/store/pack_store.h"

namespace celslm {

// One pack's blocks, as they come from sources or were computed here. A block is kept if it is what the cloud signed: a
// computed one that is not (another kind of CPU rounds otherwise) leaves the pack unfinished. Not thread-safe.
class PackKeeper {
 public:
  // store may be null: nothing is kept.
  PackKeeper(PackStore* store, PackIdentity identity, Log log);

  // What the cloud signed for these blocks; of several that say so the first counts.
  void announce(int first, std::span<const BlockEntry> entries);
  void put(int index, ByteView bytes);
  // K before RoPE and V of all tokens of a layer, [n_tokens][kv_width] both.
  void put_computed(int layer, std::span<const float> k, std::span<const float> v);
  bool wants(int index) const { return store_ != nullptr && !kept_[static_cast<std::size_t>(index)]; }
  bool wants_anything() const { return store_ != nullptr && n_kept_ < identity_.n_blocks(); }
  bool whole() const { return store_ != nullptr && n_kept_ == identity_.n_blocks(); }
  Status commit(ByteView header);

 private:
  void keep(int index, ByteView bytes);
  void give_up(const Error& why);

  PackStore* store_;
  const PackIdentity identity_;
  const Log log_;
  std::unique_ptr<PackWriter> writer_;
  std::vector<BlockEntry> table_;  // [n_blocks]; bytes == 0: not announced yet
  std::vector<bool> kept_;         // [n_blocks]
  std::map<int, Bytes> waiting_;   // for their entries
  int n_kept_ = 0;
};

}  // namespace celslm
