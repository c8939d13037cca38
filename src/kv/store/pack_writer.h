// One pack being written to a file.
#pragma once

#include <filesystem>
#include <memory>

#include "core/file.h"
#include "core/result.h"
#include "kv/pack/pack.h"

namespace celslm {

// Blocks may come in any order, from several threads; each is checked against its entry. May outlive the store that made
// it. An interface, so that a full disk is a line in a test.
class PackWriter {
 public:
  virtual ~PackWriter() = default;  // without commit: nothing remains
  // kInvalid, kMismatch: the block is not what its entry says, or the entry not what the identity allows. kIo.
  virtual Status put(int index, const BlockEntry& entry, ByteView bytes) = 0;
  virtual Result<Bytes> read(int index) const = 0;  // a block already put; kNotFound for others
  // Writes the header last and makes the pack visible, once. kInvalid unless every block was put, and is what the header
  // says.
  virtual Status commit(ByteView header) = 0;
};

// part: where it is left if it does not become complete, once there is a block in it; may be empty.
std::unique_ptr<PackWriter> make_pack_writer(PackIdentity identity, std::unique_ptr<AtomicFile> file,
                                             std::filesystem::path part = {});

}  // namespace celslm
