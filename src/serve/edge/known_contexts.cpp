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

Result<std::vector<ContextInfo>> parse(std::string_view text) {
  CELSLM_TRY(const json object, parse_object(text));
  CELSLM_TRY(const json* contexts, JsonFields(object).required_list("contexts", kMaxContexts));
  std::vector<ContextInfo> out;
  for (const json& context : *contexts) {
    CELSLM_TRY(ContextInfo info, context_info_from(context));
    out.push_back(std::move(info));
  }
  return out;
}

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

std::vector<ContextInfo> KnownContexts::load() const {
  const auto bytes = read_file(folder_ / kList, kMaxListBytes);
  if (!bytes) return {};
  return parse(as_text(*bytes)).value_or(std::vector<ContextInfo>());
}

void KnownContexts::save(const std::vector<ContextInfo>& contexts) {
  std::vector<ContextInfo> sorted = contexts;
  std::ranges::sort(sorted, {}, &ContextInfo::handle);
  json list = json::array();
  for (const ContextInfo& info : sorted) list.push_back(to_json(info));
  std::string text = dump_json({{"contexts", std::move(list)}});
  if (text == saved_) return;
  std::error_code error;
  fs::create_directories(folder_, error);
  if (!write_file_atomically(folder_ / kList, as_bytes(text))) return;
  saved_ = std::move(text);
  forget_texts_except(contexts);
}

void KnownContexts::forget_texts_except(const std::vector<ContextInfo>& contexts) const {
  std::error_code error;
  std::vector<fs::path> forgotten;
  for (fs::directory_iterator it(folder_, error), end; !error && it != end; it.increment(error)) {
    const auto handle = Hash256::from_hex(it->path().stem().string());
    if (handle && !std::ranges::contains(contexts, *handle, &ContextInfo::handle)) forgotten.push_back(it->path());
  }
  for (const fs::path& path : forgotten) fs::remove(path, error);
}

std::optional<std::string> KnownContexts::text(const ContextHandle& handle) const {
  const auto bytes = read_file(path_of(handle), kMaxContextBytes);
  if (!bytes || context_handle(as_text(*bytes)) != handle) return std::nullopt;
  return std::string(as_text(*bytes));
}

void KnownContexts::keep_text(const ContextHandle& handle, std::string_view text) {
  if (bytes_in(folder_) + text.size() > kMaxTextsBytes) return;
  std::error_code error;
  fs::create_directories(folder_, error);
  (void)write_file_atomically(path_of(handle), as_bytes(text));
}

}  // namespace celslm
