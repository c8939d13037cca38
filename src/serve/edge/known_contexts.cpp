#include "serve/edge/known_contexts.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/json.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kList = "list.json";
constexpr std::uint64_t kMaxTextsBytes = 256ULL << 20;

std::uint64_t bytes_in(const fs::path& folder) {
  std::uint64_t sum = 0;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::error_code unknown;
    const std::uint64_t size = it->file_size(unknown);
    if (!unknown) sum += size;
  }
  return sum;
}

}  // namespace

ContextList KnownContexts::load() const {
  (void)remove_abandoned_files(folder_);  // of an edge that was killed; there may be no folder yet
  const auto bytes = read_file(folder_ / kList, kMaxListBytes);
  if (!bytes) return {};
  const auto object = parse_object(as_text(*bytes));
  auto list = object ? context_list_from(*object) : std::unexpected(object.error());
  return list && list->complete() ? *std::move(list) : ContextList();
}

void KnownContexts::save(ContextList list) {
  std::ranges::sort(list.added, {}, &ContextInfo::handle);
  std::string text = dump_json(to_json(list));
  if (text == saved_) return;
  std::error_code error;
  fs::create_directories(folder_, error);
  if (!write_file_atomically(folder_ / kList, as_bytes(text))) return;
  saved_ = std::move(text);
  forget_texts_except(list.added);
}

void KnownContexts::forget_texts_except(const std::vector<ContextInfo>& sorted) const {
  std::error_code error;
  std::vector<fs::path> forgotten;
  for (fs::directory_iterator it(folder_, error), end; !error && it != end; it.increment(error)) {
    const auto handle = Hash256::from_hex(it->path().stem().string());
    if (handle && !std::ranges::binary_search(sorted, *handle, {}, &ContextInfo::handle)) forgotten.push_back(it->path());
  }
  for (const fs::path& path : forgotten) fs::remove(path, error);
}

std::optional<std::string> KnownContexts::text(const ContextHandle& handle, const std::string& tenant) const {
  const auto bytes = read_file(path_of(handle), kMaxContextBytes);
  if (!bytes || context_handle(as_text(*bytes), tenant) != handle) return std::nullopt;
  return std::string(as_text(*bytes));
}

void KnownContexts::keep_text(const ContextHandle& handle, std::string_view text) {
  if (bytes_in(folder_) + text.size() > kMaxTextsBytes) return;
  std::error_code error;
  fs::create_directories(folder_, error);
  (void)write_file_atomically(path_of(handle), as_bytes(text));
}

}  // namespace celslm
