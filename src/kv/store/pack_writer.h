// Writes one pack to a file.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>

#include "core/file.h"
#include "core/result.h"
#include "kv/pack/verified_block.h"

namespace celslm {

// Thread-safe: blocks may be put in any order from several threads. May outlive the store that created it. An interface, so
// that tests can simulate a full disk.
class PackWriter {
 public:
  virtual ~PackWriter() = default;  // without commit() the file is removed, or kept as a part
  // Writes a block. kInvalid if the identity does not allow its index or its entry; kIo.
  virtual Status put(const VerifiedBlock& block) = 0;
  virtual Result<Bytes> read(int index) const = 0;  // a block that was put; kNotFound for others
  // Writes the header and makes the pack visible atomically. Call it once, after all put() calls have returned. kInvalid if
  // a block has not been put, kMismatch if the header or one of its entries belongs to another pack, kIo.
  virtual Status commit(ByteView header) = 0;
};

// The path under which a pack of this signer becomes visible.
using NameFor = std::function<std::filesystem::path(const PublicKey& signer)>;

// part: the name under which the file is kept if it contains at least one block but is never committed; may be empty.
// name: asked by commit(); empty: the name that the file has.
std::unique_ptr<PackWriter> make_pack_writer(PackIdentity identity, std::unique_ptr<AtomicFile> file,
                                             std::filesystem::path part = {}, NameFor name = {});

}  // namespace celslm
