#include "net/access/key_ring.h"

#include <utility>

namespace celslm {

bool same_hash(const Hash256& a, const Hash256& b) {
  unsigned difference = 0;
  for (std::size_t i = 0; i < a.bytes.size(); ++i) difference |= static_cast<unsigned>(a.bytes[i] ^ b.bytes[i]);
  return difference == 0;
}

Result<std::shared_ptr<KeyRing>> KeyRing::open(std::filesystem::path file, const Clock& clock) {
  std::shared_ptr<KeyRing> out(new KeyRing(std::move(file), clock));
  CELSLM_CHECK_OK(out->reload());
  return out;
}

Status KeyRing::reload() {
  CELSLM_TRY(std::vector<AccessKey> entries, read_keys(file_));
  std::vector<std::shared_ptr<const Key>> keys;
  keys.reserve(entries.size());
  const MutexLock lock(mutex_);
  std::map<Hash256, std::shared_ptr<KeyMeter>> meters;
  for (const auto& key : keys_) meters.emplace(key->entry.hash, key->meter);
  for (AccessKey& entry : entries) {
    const auto known = meters.find(entry.hash);
    auto meter = known == meters.end() ? std::make_shared<KeyMeter>(clock_) : known->second;
    keys.push_back(std::make_shared<const Key>(Key{.entry = std::move(entry), .meter = std::move(meter)}));
  }
  keys_ = std::move(keys);
  return {};
}

std::shared_ptr<const KeyRing::Key> KeyRing::find(const Hash256& hash) const {
  const MutexLock lock(mutex_);
  std::shared_ptr<const Key> out;
  for (const auto& key : keys_) {
    if (same_hash(key->entry.hash, hash)) out = key;
  }
  return out;
}

std::size_t KeyRing::size() const {
  const MutexLock lock(mutex_);
  return keys_.size();
}

}  // namespace celslm
