#include "kv/store/pack_store.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <ctime>

#include "kv/store/store_folder.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;

// Uses the modification time, because packs are never modified, while the access time is not updated on file systems mounted
// with noatime or relatime. Fails without harm for a pack that has just been evicted.
void mark_used(const fs::path& path) {
  struct timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);  // UTIME_NOW has a resolution of some milliseconds only
  const struct timespec stamps[2] = {now, now};
  ::utimensat(AT_FDCWD, path.c_str(), stamps, 0);
}

fs::path part_of(const fs::path& pack) {
  return pack.string() + std::string(kPartSuffix);
}

// The part file for a temporary file: "<pack id>.kvpack.part" for "<pack id>.kvpack.<pid>.<n>.tmp".
fs::path part_of_temporary(const fs::path& temporary) {
  const std::string name = temporary.filename().string();
  const std::size_t end = name.find(kPackSuffix);
  return end == std::string::npos ? fs::path() : part_of(temporary.parent_path() / name.substr(0, end + kPackSuffix.size()));
}

}  // namespace

ByteView StoredPack::block(int index) const {
  const BlockEntry& entry = header.blocks[static_cast<std::size_t>(index)];
  return file->bytes().subspan(region_offset + entry.offset, entry.bytes);
}

ByteView PackPart::block(const BlockEntry& entry) const {
  const ByteView bytes = file->bytes();
  const std::uint64_t first = region_offset + entry.offset;
  return first + entry.bytes <= bytes.size() ? bytes.subspan(first, entry.bytes) : ByteView();
}

Result<StoredPack> open_pack_file(const fs::path& path, const PublicKey& signer) {
  CELSLM_TRY(auto file, MappedFile::open(path));
  const ByteView bytes = file->bytes();
  const auto named = [&path](Error error) { return wrap(std::move(error), path.string()); };
  const auto length = peek_header_bytes(bytes.first(std::min(bytes.size(), kHeaderPrefixBytes)));
  if (!length) return named(length.error());
  if (*length > bytes.size()) {
    return fail(ErrorKind::kInvalid, "{}: truncated: the file has {} bytes, but the header alone has {}", path.string(),
                bytes.size(), *length);
  }
  auto header = parse_header(bytes.first(*length), signer);
  if (!header) return named(std::move(header).error());
  if (const std::uint64_t expected = *length + header->block_region_bytes(); bytes.size() != expected) {
    return fail(ErrorKind::kInvalid, "{}: the file has {} bytes, but its header requires {}", path.string(), bytes.size(),
                expected);
  }
  return StoredPack{std::move(*header), std::move(file), *length};
}

PackStore::PackStore(fs::path folder, std::uint64_t budget_bytes, Log log, bool keep_parts)
    : folder_(std::move(folder)), budget_bytes_(budget_bytes), log_(std::move(log)), keep_parts_(keep_parts) {}

fs::path PackStore::path_of(const Hash256& pack_id) const {
  return folder_ / (pack_id.hex() + std::string(kPackSuffix));
}

Result<std::unique_ptr<PackStore>> PackStore::open(const fs::path& folder, std::uint64_t budget_bytes, Log log,
                                                   bool keep_parts) {
  CELSLM_CHECK_OK(claim_folder(folder));
  const KeepFile keep = [](const fs::path& temporary) { return part_of_temporary(temporary); };
  CELSLM_TRY(const int removed, remove_abandoned_files(folder, keep_parts ? keep : KeepFile()));
  if (removed > 0) log->info("{}: removed {} unfinished packs of processes that have ended", folder.string(), removed);
  return std::unique_ptr<PackStore>(new PackStore(folder, budget_bytes, std::move(log), keep_parts));
}

Result<StoredPack> PackStore::find(const Hash256& pack_id, const PublicKey& signer) {
  const fs::path path = path_of(pack_id);
  auto pack = open_pack_file(path, signer);
  if (pack && pack->header.identity.id() != pack_id) {
    pack = fail(ErrorKind::kMismatch, "{}: contains another pack, {}", path.string(), pack->header.identity.id().hex());
  }
  if (pack) {
    mark_used(path);
  } else if (pack.error().kind == ErrorKind::kInvalid || pack.error().kind == ErrorKind::kMismatch) {
    move_aside(path, pack.error());
  }
  return pack;
}

Result<PackPart> PackStore::part(const PackIdentity& identity) const {
  CELSLM_TRY(auto file, MappedFile::open(part_of(path_of(identity.id()))));
  return PackPart{std::move(file), header_bytes(identity)};
}

void PackStore::discard(const Hash256& pack_id, const Error& why) {
  move_aside(path_of(pack_id), why);
}

// May hit a valid pack that another process commits under this name at the same moment; the only cost is that it is fetched
// again.
void PackStore::move_aside(const fs::path& path, const Error& why) {
  std::error_code error;
  fs::rename(path, path.string() + std::string(kBadSuffix), error);
  log_->warn("{}; {}", why.message,
             error ? "cannot rename it: " + error.message() : "renamed to *" + std::string(kBadSuffix));
}

Status PackStore::make_room(std::uint64_t bytes) {
  std::vector<FolderFile> files = list_folder(folder_);
  std::uint64_t total = 0;
  for (const FolderFile& file : files) total += file.bytes;
  for (const FolderFile& file : files) {
    if (total + bytes <= budget_bytes_) return {};
    if (file.kind == FolderFile::Kind::kUnfinished) continue;
    std::error_code error;
    if (!fs::remove(file.path, error)) continue;
    log_->info("{}: evicted to make room", file.path.string());
    total -= file.bytes;
  }
  if (total + bytes <= budget_bytes_) return {};
  return fail(ErrorKind::kOverloaded,
              "{}: no space for a pack of {} bytes: the budget is {} bytes, of which packs being written use {}",
              folder_.string(), bytes, budget_bytes_, total);
}

std::vector<PackStore::Listing> PackStore::list() const {
  std::vector<Listing> out;
  for (const FolderFile& file : list_folder(folder_)) {
    if (file.kind != FolderFile::Kind::kPack) continue;
    if (const auto id = Hash256::from_hex(file.path.stem().string())) out.push_back({file.path, *id, file.bytes});
  }
  return out;
}

std::uint64_t PackStore::bytes() const {
  std::uint64_t total = 0;
  for (const FolderFile& file : list_folder(folder_)) total += file.bytes;
  return total;
}

Result<std::unique_ptr<PackWriter>> PackStore::create(const PackIdentity& identity) {
  CELSLM_CHECK_OK(check_identity(identity));
  const std::uint64_t total = header_bytes(identity) + block_region_bytes(identity).most;
  if (total > budget_bytes_) {
    return fail(ErrorKind::kOverloaded, "{}: a pack of {} bytes exceeds the store's budget of {}; raise the budget",
                folder_.string(), total, budget_bytes_);
  }
  const MutexLock lock(evicting_);
  CELSLM_TRY(const FolderLock folder_lock, FolderLock::acquire(folder_));
  CELSLM_CHECK_OK(make_room(total));
  // Reserved while the lock is held, so that concurrent evictions count these bytes.
  CELSLM_TRY(auto file, AtomicFile::create(path_of(identity.id()), total));
  if (!keep_parts_) return make_pack_writer(identity, std::move(file));
  return make_pack_writer(identity, std::move(file), part_of(path_of(identity.id())));
}

}  // namespace celslm
