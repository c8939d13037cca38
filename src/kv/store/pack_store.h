// Packs on disk: a folder of immutable files with a limit on its size, which any number of processes may share. A process
// may be killed at any point without harm.
//
//   celslm-packs                     marks the folder as a store; its lock serialises eviction across processes
//   <pack id>.kvpack                 a complete pack (docs/kv-pack-format.md); its modification time is its last use
//   <pack id>.<key>.kvpack           the same, signed by a key that begins with these 16 digits, where the name above was
//   taken
//                                    by a pack that another cloud has signed
//   <pack id>.kvpack.bad             a damaged pack, kept for inspection until its space is needed
//   <pack id>.kvpack.part            the blocks of a pack that was never completed, in stores that keep them
//   <pack id>.kvpack.<pid>.<n>.tmp   a pack being written; locked by its writer, so that one of a dead writer is detected
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "core/file.h"
#include "core/log.h"
#include "core/mutex.h"
#include "core/result.h"
#include "kv/pack/verified_block.h"
#include "kv/store/pack_writer.h"

namespace celslm {

// A complete pack, open for reading. Stays readable if the store evicts its file. The header is checked; the blocks are read
// when they are asked for: kIo where the file has become shorter.
struct StoredPack {
  PackHeader header;
  std::shared_ptr<const InputFile> file;
  std::uint64_t region_offset = 0;  // where the block region starts in the file

  // 0 <= index < header.blocks.size()
  Result<Bytes> read_block(int index) const;     // not checked yet
  Result<VerifiedBlock> block(int index) const;  // kInvalid, kMismatch for a damaged one
  bool complete() const;                         // the file has not become shorter since it was opened
};

// The blocks that were written of a pack that was never completed. Which ones is not recorded: a block is present if it
// passes the check.
struct PackPart {
  std::shared_ptr<const InputFile> file;
  std::uint64_t region_offset = 0;

  Result<VerifiedBlock> block(int index, const BlockEntry& entry) const;  // as StoredPack::block()
};

// Opens a pack file outside of any store and checks its header. kNotFound, kIo; kInvalid, kMismatch with the file's name.
Result<StoredPack> open_pack_file(const std::filesystem::path& path, const PublicKey& signer);

// Thread-safe.
class PackStore {
 public:
  // Creates the folder if needed and removes temporary files of dead processes. kIo if the folder cannot be written;
  // kInvalid if it contains other files (a non-empty folder without our marker file is never changed). keep_parts: if a
  // writer ends, or its process dies, before its pack is complete, the blocks written so far are kept.
  static Result<std::unique_ptr<PackStore>> open(const std::filesystem::path& folder, std::uint64_t budget_bytes, Log log,
                                                 bool keep_parts = false);

  // Opens a pack and marks it as used now (its modification time; LRU across processes). kNotFound, also where there is only
  // one that another key has signed; kInvalid or kMismatch for a damaged file, which is also renamed to *.bad and logged.
  Result<StoredPack> find(const Hash256& pack_id, const PublicKey& signer);

  // What is kept of an incomplete pack. kNotFound.
  Result<PackPart> part(const PackIdentity& identity) const;

  // Renames a pack that was found here to *.bad, for callers that find a damaged block. `why` is logged.
  void discard(const StoredPack& pack, const Error& why);

  // Reserves the maximum size of such a pack on disk, and evicts least recently used packs as needed. kOverloaded if it does
  // not fit into the budget beside the packs being written; kIo if the disk is full.
  Result<std::unique_ptr<PackWriter>> create(const PackIdentity& identity);

  struct Listing {
    std::filesystem::path path;
    Hash256 pack_id;
    std::uint64_t bytes = 0;
  };
  std::vector<Listing> list() const;  // complete packs, least recently used first
  std::uint64_t bytes() const;        // of all files in the folder, including damaged packs and those being written
  std::uint64_t budget_bytes() const { return budget_bytes_; }
  std::optional<std::uint64_t> free_bytes() const;  // on its disk, for this user; nothing where the system does not tell

 private:
  PackStore(std::filesystem::path folder, std::uint64_t budget_bytes, Log log, bool keep_parts);
  std::filesystem::path path_of(const Hash256& pack_id) const;
  Status make_room(std::uint64_t bytes) CELSLM_REQUIRES(evicting_);  // requires the folder lock as well
  Result<StoredPack> find_at(const std::filesystem::path& path, const Hash256& pack_id, const PublicKey& signer);
  void move_aside(const std::filesystem::path& path, const Error& why);

  const std::filesystem::path folder_;
  const std::uint64_t budget_bytes_;
  const Log log_;
  const bool keep_parts_;
  Mutex evicting_;  // serialises eviction within the process; the folder lock does so across processes
};

}  // namespace celslm
