#include "serve/cloud/pack_tier.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>
#include <vector>

#include "core/printable.h"
#include "serve/cloud/pack_fetch.h"

namespace celslm {
namespace {

constexpr Duration kBlocksOutlive = std::chrono::minutes(10);  // their header, so that who has that can read them
constexpr Duration kMaxPause = std::chrono::seconds(30);
constexpr std::size_t kMaxHeaderInStore = 16U << 20;
constexpr std::size_t kReadAtOnce = 8U << 20;  // bytes of blocks

// Of the set of packs.
struct ListedPack {
  Hash256 pack_id;
  std::uint64_t bytes = 0;
};

// "<pack id> <bytes>"
std::optional<ListedPack> parse_member(std::string_view text) {
  const std::size_t space = text.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  const auto id = Hash256::from_hex(text.substr(0, space));
  ListedPack out;
  const auto [end, error] = std::from_chars(text.data() + space + 1, text.data() + text.size(), out.bytes);
  if (!id || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  out.pack_id = *id;
  return out;
}

std::uint64_t size_of(const StoredPack& pack) {
  return header_bytes(pack.header.identity) + pack.header.block_region_bytes();
}

std::unexpected<Error> gone() {
  return fail(ErrorKind::kNotFound, "the pack is not in the shared tier any more");
}

}  // namespace

PackTier::PackTier(PackTierParts parts, const Clock& clock, Log log)
    : parts_(std::move(parts)), log_(std::move(log)), thread_(clock) {}

std::string PackTier::block_key(const Hash256& pack_id, int block) const {
  return parts_.keys.block(pack_id.hex(), block);
}

// Tells nobody of errors: the member, which uses the same server, does.
void PackTier::start() {
  thread_.start([this, pause = Backoff(parts_.beat, kMaxPause)](const std::stop_token&) mutable {
    return pause.after(step().has_value());
  });
}

void PackTier::keep(StoredPack pack) {
  {
    const MutexLock lock(mutex_);
    if (waiting_.size() >= kMaxWaiting) return;
    waiting_.push_back(std::move(pack));
  }
  thread_.wake();
}

bool PackTier::has(const Hash256& pack_id) const {
  const MutexLock lock(mutex_);
  return listed_.contains(pack_id);
}

std::uint64_t PackTier::bytes() const {
  const MutexLock lock(mutex_);
  return bytes_;
}

Status PackTier::step() {
  CELSLM_CHECK_OK(read_list());
  for (;;) {
    std::optional<StoredPack> pack;
    {
      const MutexLock lock(mutex_);
      if (waiting_.empty()) return {};
      pack = std::move(waiting_.front());
      waiting_.pop_front();
    }
    CELSLM_CHECK_OK(write(*pack));
  }
}

// A pack whose header has expired is gone, whatever the list has.
Status PackTier::read_list() {
  CELSLM_TRY(const auto members, parts_.store->sample(parts_.keys.packs(), kMaxPacks));
  std::vector<std::string> headers;
  std::vector<ListedPack> packs;
  for (const std::string& text : members) {
    const auto member = parse_member(text);
    if (!member) continue;
    packs.push_back(*member);
    headers.push_back(header_key(member->pack_id));
  }
  CELSLM_TRY(const auto begun, parts_.store->get_all(headers, 0));  // of each no more than its first byte
  std::set<Hash256> listed;
  std::uint64_t bytes = 0;
  std::vector<std::string> expired;
  for (std::size_t i = 0; i < std::min(begun.size(), packs.size()); ++i) {
    if (begun[i]) {
      listed.insert(packs[i].pack_id);
      bytes += packs[i].bytes;
    } else {
      expired.push_back(packs[i].pack_id.hex() + " " + std::to_string(packs[i].bytes));
    }
  }
  CELSLM_CHECK_OK(parts_.store->discard(parts_.keys.packs(), expired));
  const MutexLock lock(mutex_);
  listed_ = std::move(listed);
  bytes_ = bytes;
  return {};
}

// The header last: where it is, all is.
Status PackTier::write(const StoredPack& pack) {
  const Hash256 pack_id = pack.header.identity.id();
  const std::uint64_t size = size_of(pack);
  const auto& blocks = pack.header.blocks;
  const auto is_large = [](const BlockEntry& entry) { return entry.bytes > kMaxBlockBytes; };
  if (has(pack_id) || bytes() + size > parts_.limit_bytes || std::ranges::any_of(blocks, is_large)) return {};
  for (int i = 0; i < pack.header.identity.n_blocks(); ++i) {
    const auto block = pack.block(i);
    if (!block) return {};  // evicted from the disk, or damaged: it is not kept
    CELSLM_CHECK_OK(parts_.store->set(block_key(pack_id, i), std::string(as_text(block->bytes())), kKept + kBlocksOutlive));
  }
  const Bytes header = encode_header(pack.header.identity, blocks, parts_.key);
  CELSLM_CHECK_OK(parts_.store->set(header_key(pack_id), std::string(as_text(header)), kKept));
  CELSLM_CHECK_OK(parts_.store->add(parts_.keys.packs(), pack_id.hex() + " " + std::to_string(size), kKept));
  const MutexLock lock(mutex_);
  listed_.insert(pack_id);
  bytes_ += size;
  return {};
}

Result<StoredPack> PackTier::fetch(PackJob& job, PackStorage& storage, std::stop_token stop) {
  if (!has(job.pack_id)) return fail(ErrorKind::kNotFound, "the shared tier does not have this pack");
  const MutexLock lock(reading_mutex_);
  const std::vector<std::string> key{header_key(job.pack_id)};
  CELSLM_TRY(const auto texts, parts_.reading->get_all(key, kMaxHeaderInStore));
  if (!texts.at(0)) return gone();
  const ByteView bytes = as_bytes(*texts[0]);
  CELSLM_TRY(const PackHeader header, parse_header(bytes, parts_.key.public_key()));
  if (const std::string difference = job.identity.difference(header.identity); !difference.empty())
    return fail(ErrorKind::kMismatch, "the shared tier has another pack under this name: {}", printable(difference));
  CELSLM_TRY(auto created, storage.create(job.identity));
  const std::shared_ptr<PackWriter> writer = std::move(created);
  CELSLM_CHECK_OK(read_blocks(job, header, *writer, stop));
  return finish_fetched(job, writer, bytes, header.blocks, storage, parts_.key);
}

Status PackTier::read_blocks(const PackJob& job, const PackHeader& header, PackWriter& writer, std::stop_token stop) {
  const int n = job.identity.n_blocks();
  for (int first = 0; first < n;) {
    if (stop.stop_requested()) return fail(ErrorKind::kCancelled, "the cloud is shutting down");
    std::vector<std::string> keys;
    std::size_t longest = 0;
    for (int i = first; i < n; ++i) {
      const std::size_t most = std::max<std::size_t>(longest, header.blocks[static_cast<std::size_t>(i)].bytes);
      if (!keys.empty() && (keys.size() + 1) * most > kReadAtOnce) break;
      longest = most;
      keys.push_back(block_key(job.pack_id, i));
    }
    CELSLM_TRY(const auto values, parts_.reading->get_all(keys, longest));
    for (const auto& value : values) {
      if (!value) return gone();
      const ByteView bytes = as_bytes(*value);
      CELSLM_TRY(const auto block, VerifiedBlock::check(first, header.blocks[static_cast<std::size_t>(first)],
                                                        Bytes(bytes.begin(), bytes.end())));
      CELSLM_CHECK_OK(writer.put(block));
      ++first;
    }
  }
  return {};
}

}  // namespace celslm
