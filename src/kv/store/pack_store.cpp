#include "kv/store/pack_store.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <ctime>

#include "kv/pack/pack_file.h"
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

// Where a pack of this signer lies if another signer's has the plain name.
fs::path name_for_signer(const fs::path& plain, const PublicKey& signer) {
  return plain.parent_path() / (plain.stem().string() + "." + signer.hex().substr(0, 16) + std::string(kPackSuffix));
}

// Whether the file begins with the undamaged header of another cloud's pack.
bool is_signed_by_another(const fs::path& path, const PublicKey& signer) {
  const auto file = InputFile::open(path);
  if (!file) return false;
  const auto head = read_pack_header(**file);
  if (!head) return false;
  const auto claimed = parse_header_unverified(*head);
  return claimed && claimed->signer != signer && parse_header(*head, claimed->signer);
}

}  // namespace

Result<Bytes> StoredPack::read_block(int index) const {
  const BlockEntry& entry = header.blocks[static_cast<std::size_t>(index)];
  return file->read(region_offset + entry.offset, entry.bytes);
}

Result<VerifiedBlock> StoredPack::block(int index) const {
  CELSLM_TRY(Bytes bytes, read_block(index));
  return VerifiedBlock::check(index, header.blocks[static_cast<std::size_t>(index)], std::move(bytes));
}

bool StoredPack::complete() const {
  return file->read(file->size() - 1, 1).has_value();
}

Result<VerifiedBlock> PackPart::block(int index, const BlockEntry& entry) const {
  CELSLM_TRY(Bytes bytes, file->read(region_offset + entry.offset, entry.bytes));
  return VerifiedBlock::check(index, entry, std::move(bytes));
}

Result<StoredPack> open_pack_file(const fs::path& path, const PublicKey& signer) {
  CELSLM_TRY(auto file, InputFile::open(path));
  CELSLM_TRY(const Bytes head, read_pack_header(*file));
  auto header = parse_header(head, signer);
  if (!header) return wrap(std::move(header).error(), path.string());
  if (const std::uint64_t expected = head.size() + header->block_region_bytes(); file->size() != expected) {
    return fail(ErrorKind::kInvalid, "{}: the file has {} bytes, but its header requires {}", path.string(), file->size(),
                expected);
  }
  return StoredPack{std::move(*header), std::move(file), head.size()};
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
  auto pack = find_at(path_of(pack_id), pack_id, signer);
  if (pack || pack.error().kind != ErrorKind::kNotFound) return pack;
  auto named = find_at(name_for_signer(path_of(pack_id), signer), pack_id, signer);
  return named || named.error().kind != ErrorKind::kNotFound ? std::move(named) : std::move(pack);
}

Result<StoredPack> PackStore::find_at(const fs::path& path, const Hash256& pack_id, const PublicKey& signer) {
  auto pack = open_pack_file(path, signer);
  if (!pack && pack.error().kind == ErrorKind::kMismatch && is_signed_by_another(path, signer))
    return fail(ErrorKind::kNotFound, "{}", pack.error().message);
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
  CELSLM_TRY(auto file, InputFile::open(part_of(path_of(identity.id()))));
  return PackPart{std::move(file), header_bytes(identity)};
}

void PackStore::discard(const StoredPack& pack, const Error& why) {
  move_aside(pack.file->path(), why);
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
    const std::string name = file.path.stem().string();  // "<pack id>" or "<pack id>.<key>"
    if (const auto id = Hash256::from_hex(name.substr(0, name.find('.')))) out.push_back({file.path, *id, file.bytes});
  }
  return out;
}

std::uint64_t PackStore::bytes() const {
  std::uint64_t total = 0;
  for (const FolderFile& file : list_folder(folder_)) total += file.bytes;
  return total;
}

std::optional<std::uint64_t> PackStore::free_bytes() const {
  std::error_code error;
  const auto space = std::filesystem::space(folder_, error);
  return error ? std::nullopt : std::optional<std::uint64_t>(space.available);
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
  const fs::path plain = path_of(identity.id());
  const NameFor name = [plain](const PublicKey& signer) {
    return is_signed_by_another(plain, signer) ? name_for_signer(plain, signer) : plain;
  };
  return make_pack_writer(identity, std::move(file), keep_parts_ ? part_of(plain) : fs::path(), name);
}

}  // namespace celslm
