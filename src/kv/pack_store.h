// Packs on disk: a folder of immutable files, bounded in bytes, shared by any number of processes, safe to kill at any point.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <vector>

#include "core/file.h"
#include "core/log.h"
#include "core/result.h"
#include "kv/pack.h"

namespace celslm {

// A whole pack in the store, mapped. Stays readable if the store evicts the file meanwhile.
struct StoredPack {
  PackHeader header;
  std::shared_ptr<const MappedFile> file;
  std::uint64_t region_offset = 0;  // where the block region starts in the file

  ByteView block(int index) const;
};

// Thread-safe.
class PackStore {
 public:
  // Makes the folder if needed and removes temporary files of dead processes. kIo for a folder that cannot be written,
  // kInvalid for one that holds something else (a non-empty folder without our marker file is never touched).
  static Result<std::unique_ptr<PackStore>> open(const std::filesystem::path& folder, std::uint64_t budget_bytes, Log log);

  // kNotFound; kInvalid / kMismatch for a damaged or foreign file, which is then moved aside (name.bad) and reported.
  // Marks the pack as used now (LRU across processes: the file's access stamp).
  Result<StoredPack> find(const Hash256& pack_id, const PublicKey& signer);

  // A pack being written. Blocks may come in any order, from several threads; each is checked against its entry.
  class Writer {
   public:
    virtual ~Writer() = default;  // without commit: nothing remains
    virtual Status put(int index, const BlockEntry& entry, ByteView bytes) = 0;
    virtual Result<Bytes> read(int index) const = 0;  // a block already put
    // Writes the header last and makes the pack visible. Fails unless every block was put.
    virtual Status commit(ByteView header) = 0;
  };
  // region_bytes: the size of the block region (for codecs without fixed size an upper bound). Evicts least recently used
  // packs to make room first; kOverloaded if the pack alone is over the budget, kIo when the disk is full.
  Result<std::unique_ptr<Writer>> create(const PackIdentity& identity, std::uint64_t region_bytes);

  struct Listing {
    std::filesystem::path path;
    Hash256 pack_id;
    std::uint64_t bytes = 0;
  };
  std::vector<Listing> list() const;
  std::uint64_t bytes() const;
  std::uint64_t budget_bytes() const { return budget_bytes_; }

 private:
  PackStore(std::filesystem::path folder, std::uint64_t budget_bytes, Log log);
  Status make_room(std::uint64_t bytes);

  const std::filesystem::path folder_;
  const std::uint64_t budget_bytes_;
  const Log log_;
  mutable std::mutex mutex_;  // serialises eviction within the process; a lock file does across processes
};

}  // namespace celslm
