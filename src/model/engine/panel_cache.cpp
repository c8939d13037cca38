#include "model/engine/panel_cache.h"

#include <algorithm>
#include <cstring>
#include <system_error>
#include <utility>

#include "model/matrix/packed_matrix.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;

constexpr char kMagic[8] = {'C', 'E', 'L', 'P', 'A', 'N', 'E', 'L'};
constexpr std::size_t kPiece = std::size_t{4} << 20;  // of a write

struct Head {
  char magic[8] = {};
  std::uint64_t layout = 0;
  Hash256 weights;
  Hash256 body;  // of all that is behind the head's page
};

Head head_of(const Hash256& weights, const Hash256& body) {
  Head head{.layout = kPanelLayout, .weights = weights, .body = body};
  std::memcpy(head.magic, kMagic, sizeof kMagic);
  return head;
}

constexpr std::size_t padded(std::size_t size) {
  return (size + kPanelAlignment - 1) / kPanelAlignment * kPanelAlignment;
}

// Where each matrix begins, and the end of the file.
template <typename Sizes>
std::vector<std::size_t> offsets_of(const Sizes& sizes) {
  std::vector<std::size_t> out = {kPanelAlignment};
  for (const auto& size : sizes) out.push_back(out.back() + padded(size));
  return out;
}

// A thread that cannot be had is no reason to fail: then the caller's thread does it when it waits.
std::shared_future<Hash256> hash_beside(std::shared_ptr<const MappedFile> file) {
  const auto hash = [file = std::move(file)] { return hash_of(file->bytes().subspan(kPanelAlignment)); };
  try {
    return std::async(std::launch::async, hash).share();
  } catch (const std::system_error&) {
    return std::async(std::launch::deferred, hash).share();
  }
}

void remove_old(const fs::path& folder) {
  std::vector<std::pair<fs::file_time_type, fs::path>> files;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().extension() == ".panels") files.emplace_back(entry.last_write_time(ignored), entry.path());
  }
  std::ranges::sort(files, std::greater());
  for (std::size_t i = kMostPanelFiles; i < files.size(); ++i) fs::remove(files[i].second, ignored);
}

}  // namespace

fs::path panel_file(const fs::path& folder, const Hash256& headers) {
  return folder / (headers.hex().substr(0, 32) + ".panels");
}

CachedPanels::CachedPanels(std::shared_ptr<const MappedFile> file, std::span<const std::size_t> sizes)
    : file_(std::move(file)), offsets_(offsets_of(sizes)), sizes_(sizes.begin(), sizes.end()) {}

std::unique_ptr<CachedPanels> CachedPanels::open(const fs::path& path, std::span<const std::size_t> sizes) {
  auto file = MappedFile::open(path);
  if (!file) return nullptr;
  std::unique_ptr<CachedPanels> out(new CachedPanels(*std::move(file), sizes));
  if (out->file_->bytes().size() != out->offsets_.back()) return nullptr;
  out->body_ = hash_beside(out->file_);
  std::error_code ignored;  // the time tells which files are in use
  fs::last_write_time(path, fs::file_time_type::clock::now(), ignored);
  return out;
}

bool CachedPanels::hold(const Hash256& weights) {
  const Head expected = head_of(weights, body_.get());
  return std::memcmp(file_->bytes().data(), &expected, sizeof expected) == 0;
}

ByteView CachedPanels::panels(std::size_t matrix) const {
  return file_->bytes().subspan(offsets_[matrix], sizes_[matrix]);
}

Status write_panels(const fs::path& path, const Hash256& weights, std::span<const ByteView> panels,
                    const std::stop_token& stop) {
  std::vector<std::size_t> sizes;
  for (const ByteView matrix : panels) sizes.push_back(matrix.size());
  const std::vector<std::size_t> offsets = offsets_of(sizes);
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (error) return fail(ErrorKind::kIo, "{}: {}", path.parent_path().string(), error.message());
  CELSLM_CHECK_OK(remove_abandoned_files(path.parent_path()).transform([](int) {}));
  if (const auto space = fs::space(path.parent_path(), error); !error && space.available < 2 * offsets.back()) {
    return fail(ErrorKind::kIo, "{}: {:.1f} GB free; {:.1f} GB are written only where twice that is",
                path.parent_path().string(), static_cast<double>(space.available) / 1e9,
                static_cast<double>(offsets.back()) / 1e9);
  }
  CELSLM_TRY(const auto file, AtomicFile::create(path, offsets.back()));
  Hasher body;
  const std::vector<std::byte> zeros(kPanelAlignment);
  for (std::size_t i = 0; i < panels.size(); ++i) {
    for (std::size_t at = 0; at < panels[i].size(); at += kPiece) {
      if (stop.stop_requested()) return fail(ErrorKind::kCancelled, "writing {}", path.string());
      const ByteView piece = panels[i].subspan(at, std::min(kPiece, panels[i].size() - at));
      CELSLM_CHECK_OK(file->write_at(offsets[i] + at, piece));
      body.update(piece);
    }
    const std::size_t gap = padded(panels[i].size()) - panels[i].size();
    CELSLM_CHECK_OK(file->write_at(offsets[i] + panels[i].size(), ByteView(zeros).first(gap)));
    body.update(ByteView(zeros).first(gap));
  }
  const Head head = head_of(weights, body.finish());
  CELSLM_CHECK_OK(file->write_at(0, std::as_bytes(std::span(&head, 1))));
  CELSLM_CHECK_OK(file->commit());
  remove_old(path.parent_path());
  return {};
}

}  // namespace celslm
