#include "serve/cloud/pack_job.h"

#include <algorithm>
#include <utility>

namespace celslm {

PackJob::PackJob(PackIdentity what, Hash256 id, Bytes signed_preamble)
    : identity(std::move(what)), pack_id(id), preamble(std::move(signed_preamble)) {}

Result<Bytes> PackJob::entries(int from, std::chrono::milliseconds patience) const {
  const auto first = static_cast<std::size_t>(from) * kSignedEntryBytes;
  const MutexLock lock(mutex_);
  changed_.wait_for(mutex_, patience,
                    [&]() CELSLM_REQUIRES(mutex_) { return error_ || stored_ || entries_.size() > first; });
  if (error_) return std::unexpected(*error_);
  if (entries_.size() <= first) return Bytes{};
  return Bytes(entries_.begin() + static_cast<std::ptrdiff_t>(first), entries_.end());
}

Result<bool> PackJob::wait_complete(std::chrono::milliseconds patience) const {
  const MutexLock lock(mutex_);
  changed_.wait_for(mutex_, patience, [&]() CELSLM_REQUIRES(mutex_) { return error_ || stored_; });
  if (error_) return std::unexpected(*error_);
  return stored_.has_value();
}

int PackJob::announced() const {
  const MutexLock lock(mutex_);
  return static_cast<int>(table_.size());
}

std::uint64_t PackJob::announced_bytes() const {
  const MutexLock lock(mutex_);
  return table_.empty() ? 0 : table_.back().offset + table_.back().bytes;
}

Result<Bytes> PackJob::read(std::uint64_t offset) const {
  std::shared_ptr<PackWriter> writer;
  std::shared_ptr<const InputFile> file;
  int index = 0;
  std::uint64_t at = 0;  // of the block in the file
  std::size_t n = 0;
  std::size_t skip = 0;
  {
    const MutexLock lock(mutex_);
    if (error_) return std::unexpected(*error_);
    const auto it = std::ranges::upper_bound(table_, offset, {}, [](const BlockEntry& e) { return e.offset + e.bytes; });
    if (it == table_.end())
      return celslm::fail(ErrorKind::kNotFound, "byte {} of pack {} has not been computed yet", offset, pack_id.hex());
    index = static_cast<int>(it - table_.begin());
    skip = offset - it->offset;
    if (stored_) {
      file = stored_->file;
      at = stored_->region_offset + it->offset;
      n = it->bytes;
    }
    writer = writer_;
  }
  CELSLM_TRY(Bytes bytes, file ? file->read(at, n) : writer->read(index));  // from the disk, without the lock
  bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(skip));
  return bytes;
}

int PackJob::follow(std::function<void()> changed) {
  const MutexLock lock(mutex_);
  followers_[next_follower_] = std::make_shared<const std::function<void()>>(std::move(changed));
  return next_follower_++;
}

void PackJob::unfollow(int follower) {
  decltype(followers_)::node_type gone;  // may own what follows: destroyed without the lock
  const MutexLock lock(mutex_);
  gone = followers_.extract(follower);
}

void PackJob::notify() {
  changed_.notify_all();
  std::vector<std::shared_ptr<const std::function<void()>>> calls;
  {
    const MutexLock lock(mutex_);
    for (const auto& [follower, call] : followers_) calls.push_back(call);
  }
  for (const auto& call : calls) (*call)();
}

void PackJob::begin(std::shared_ptr<PackWriter> writer) {
  const MutexLock lock(mutex_);
  writer_ = std::move(writer);
}

void PackJob::announce(std::span<const SignedEntry> next) {
  {
    const MutexLock lock(mutex_);
    for (const SignedEntry& entry : next) {
      const Bytes bytes = encode_entry(entry);
      entries_.insert(entries_.end(), bytes.begin(), bytes.end());
      table_.push_back(entry.entry);
    }
  }
  notify();
}

void PackJob::complete(StoredPack pack) {
  std::shared_ptr<PackWriter> done;
  {
    const MutexLock lock(mutex_);
    stored_ = std::move(pack);
    done = std::move(writer_);
  }
  notify();
}

void PackJob::fail(Error error) {
  std::shared_ptr<PackWriter> abandoned;  // removes its file after the lock is released
  {
    const MutexLock lock(mutex_);
    error_ = std::move(error);
    abandoned = std::move(writer_);
  }
  notify();
}

}  // namespace celslm
