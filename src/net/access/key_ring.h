// The keys by which a server knows its clients, as its keys file has them now.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/mutex.h"
#include "core/result.h"
#include "net/access/key_file.h"
#include "net/access/key_meter.h"

namespace celslm {

// Thread-safe.
class KeyRing {
 public:
  struct Key {
    AccessKey entry;
    std::shared_ptr<KeyMeter> meter;
  };

  // Errors of read_keys(). The clock must outlive this and all uses of its keys.
  static Result<std::shared_ptr<KeyRing>> open(std::filesystem::path file, const Clock& clock);

  // Reads the file again; after an error the keys stay as they are. A key that stays keeps what it has used of its limits.
  Status reload() CELSLM_EXCLUDES(mutex_);

  // The key with this hash; null if there is none. Takes as long whether there is one or not, and wherever it is: hashes are
  // compared in full with every key's.
  std::shared_ptr<const Key> find(const Hash256& hash) const CELSLM_EXCLUDES(mutex_);
  std::size_t size() const CELSLM_EXCLUDES(mutex_);
  const std::filesystem::path& file() const { return file_; }

 private:
  KeyRing(std::filesystem::path file, const Clock& clock) : file_(std::move(file)), clock_(clock) {}

  const std::filesystem::path file_;
  const Clock& clock_;
  mutable Mutex mutex_;
  std::vector<std::shared_ptr<const Key>> keys_ CELSLM_GUARDED_BY(mutex_);
};

// In time that does not depend on where they differ.
bool same_hash(const Hash256& a, const Hash256& b);

}  // namespace celslm
