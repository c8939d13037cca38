// Packs on disk: a folder of immutable files, bounded in bytes, shared by any number of processes, safe to kill at any
// point.
//
//   celslm-packs                     marks the folder as ours; its lock serialises eviction across processes
//   <pack id>.kvpack                 a whole pack (docs/kv-pack-format.md); its modification stamp says when it was used
//   <pack id>.kvpack.bad             one that was found damaged, kept for a look until its room is needed
//   <pack id>.kvpack.part            what there is of one that was never finished, in stores that keep these
//   <pack id>.kvpack.<pid>.<n>.tmp   one being written; locked by its writer, so that a dead writer's can be told
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "core/file.h"
#include "core/log.h"
#include "core/mutex.h"
#include "core/result.h"
#include "kv/pack/pack.h"
#include "kv/store/pack_writer.h"

namespace celslm {

// A whole pack in the store, mapped. Stays readable if the store evicts the file meanwhile. Blocks are not checked yet:
// decode_block() or check_block() does.
struct StoredPack {
  PackHeader header;
  std::shared_ptr<const MappedFile> file;
  std::uint64_t region_offset = 0;  // where the block region starts in the file

  ByteView block(int index) const;  // 0 <= index < header.blocks.size()
};

// What was written of a pack that was never finished. Nothing says which blocks are there: one is if its bytes are what its
// entry says.
struct PackPart {
  std::shared_ptr<const MappedFile> file;
  std::uint64_t region_offset = 0;

  ByteView block(const BlockEntry& entry) const;  // empty where the file is too short
};

// A mapped pack file outside any store. kNotFound, kIo; kInvalid, kMismatch with the file's name.
Result<StoredPack> open_pack_file(const std::filesystem::path& path, const PublicKey& signer);

// Thread-safe.
class PackStore {
 public:
  // Makes the folder if needed and removes temporary files of dead processes. kIo for a folder that cannot be written,
  // kInvalid for one that holds something else (a non-empty folder without our marker file is never touched).
  // keep_parts: what was written of a pack is kept when its writer ends, or dies, before it is whole.
  static Result<std::unique_ptr<PackStore>> open(const std::filesystem::path& folder, std::uint64_t budget_bytes, Log log,
                                                 bool keep_parts = false);

  // kNotFound; kInvalid / kMismatch for a damaged or foreign file, which is then moved aside (name.bad) and reported.
  // Marks the pack as used now (LRU across processes: the file's modification stamp).
  Result<StoredPack> find(const Hash256& pack_id, const PublicKey& signer);

  // kNotFound.
  Result<PackPart> part(const PackIdentity& identity) const;

  // Moves a pack aside whose header was fine but one of whose blocks was not. `why` goes to the log.
  void discard(const Hash256& pack_id, const Error& why);

  // Reserves the most that such a pack may have, and evicts least recently used packs to make that room; kOverloaded if it
  // does not fit into the budget (alone, or beside those being written), kIo when the disk is full.
  Result<std::unique_ptr<PackWriter>> create(const PackIdentity& identity);

  struct Listing {
    std::filesystem::path path;
    Hash256 pack_id;
    std::uint64_t bytes = 0;
  };
  std::vector<Listing> list() const;  // whole packs, least recently used first
  std::uint64_t bytes() const;        // of everything in the folder, also damaged packs and those being written
  std::uint64_t budget_bytes() const { return budget_bytes_; }

 private:
  PackStore(std::filesystem::path folder, std::uint64_t budget_bytes, Log log, bool keep_parts);
  std::filesystem::path path_of(const Hash256& pack_id) const;
  Status make_room(std::uint64_t bytes) CELSLM_REQUIRES(evicting_);  // with the folder's lock, too
  void move_aside(const std::filesystem::path& path, const Error& why);

  const std::filesystem::path folder_;
  const std::uint64_t budget_bytes_;
  const Log log_;
  const bool keep_parts_;
  Mutex evicting_;  // one at a time within the process; the folder's lock does the same across processes
};

}  // namespace celslm
