#include "kv/store/pack_writer.h"

#include <vector>

#include "core/mutex.h"

namespace celslm {
namespace {

class FilePackWriter final : public PackWriter {
 public:
  FilePackWriter(PackIdentity identity, std::unique_ptr<AtomicFile> file, std::filesystem::path part, NameFor name)
      : identity_(std::move(identity)),
        header_bytes_(header_bytes(identity_)),
        file_(std::move(file)),
        part_(std::move(part)),
        name_(std::move(name)),
        entries_(static_cast<std::size_t>(identity_.n_blocks())),
        put_(entries_.size()) {}

  Status put(const VerifiedBlock& block) override {
    CELSLM_CHECK_OK(check_slot(block.index(), block.entry()));
    CELSLM_CHECK_OK(file_->write_at(header_bytes_ + block.entry().offset, block.bytes()));
    const MutexLock lock(mutex_);
    if (!part_.empty()) file_->leave_as(part_);
    entries_[static_cast<std::size_t>(block.index())] = block.entry();
    put_[static_cast<std::size_t>(block.index())] = true;
    return {};
  }

  Result<Bytes> read(int index) const override {
    BlockEntry entry;
    {
      const MutexLock lock(mutex_);
      if (index < 0 || index >= identity_.n_blocks() || !put_[static_cast<std::size_t>(index)]) {
        return fail(ErrorKind::kNotFound, "block {} has not been put", index);
      }
      entry = entries_[static_cast<std::size_t>(index)];
    }
    return file_->read_at(header_bytes_ + entry.offset, entry.bytes);
  }

  Status commit(ByteView header) override {
    const MutexLock lock(mutex_);
    CELSLM_TRY(const PackHeader parsed, parse_header_unverified(header));
    CELSLM_CHECK_OK(check_header(parsed));
    CELSLM_CHECK_OK(file_->write_at(0, header));
    CELSLM_CHECK_OK(file_->truncate(header_bytes_ + entries_.back().offset + entries_.back().bytes));
    if (name_) file_->name_it(name_(parsed.signer));
    CELSLM_CHECK_OK(file_->commit());
    std::error_code gone;
    if (!part_.empty()) std::filesystem::remove(part_, gone);
    return {};
  }

 private:
  Status check_slot(int index, const BlockEntry& entry) const {
    if (index < 0 || index >= identity_.n_blocks()) {
      return fail(ErrorKind::kInvalid, "index is {}, but the pack has {} blocks", index, identity_.n_blocks());
    }
    return check_bounds(identity_, index, entry);
  }

  // The signature is not checked here, because the writer has no key: PackStore::find() does, and callers check the origin
  // of the blocks.
  Status check_header(const PackHeader& parsed) const CELSLM_REQUIRES(mutex_) {
    if (const std::string difference = parsed.identity.difference(identity_); !difference.empty()) {
      return fail(ErrorKind::kMismatch, "the header belongs to another pack: {}", difference);
    }
    for (std::size_t i = 0; i < put_.size(); ++i) {
      if (!put_[i]) return fail(ErrorKind::kInvalid, "block {} of {} has not been put", i, put_.size());
      if (entries_[i] != parsed.blocks[i])
        return fail(ErrorKind::kMismatch, "block {} differs from its entry in the header", i);
    }
    return {};
  }

  const PackIdentity identity_;
  const std::uint64_t header_bytes_;
  const std::unique_ptr<AtomicFile> file_;
  const std::filesystem::path part_;
  const NameFor name_;
  mutable Mutex mutex_;
  std::vector<BlockEntry> entries_ CELSLM_GUARDED_BY(mutex_);  // [n_blocks]
  std::vector<bool> put_ CELSLM_GUARDED_BY(mutex_);            // [n_blocks]
};

}  // namespace

std::unique_ptr<PackWriter> make_pack_writer(PackIdentity identity, std::unique_ptr<AtomicFile> file,
                                             std::filesystem::path part, NameFor name) {
  return std::make_unique<FilePackWriter>(std::move(identity), std::move(file), std::move(part), std::move(name));
}

}  // namespace celslm
