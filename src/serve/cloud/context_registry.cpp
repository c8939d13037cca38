#include "serve/cloud/context_registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "core/file.h"
#include "core/json.h"
#include "core/utf8.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kSuffix = ".json";
// A text of control characters grows sixfold as JSON.
constexpr std::uint64_t kMaxFileBytes = 6 * kMaxContextBytes + 4096;

Status check_text(std::string_view text) {
  if (text.empty()) return fail(ErrorKind::kInvalid, "the text is empty");
  if (text.size() > kMaxContextBytes) {
    return fail(ErrorKind::kInvalid, "the text has {} bytes; at most {} can be registered", text.size(), kMaxContextBytes);
  }
  if (!is_utf8(text)) return fail(ErrorKind::kInvalid, "the text is not UTF-8");
  return {};
}

// Names are shown on terminals and in logs: control characters there are an attack, not a name.
Status check_name(std::string_view name) {
  if (name.size() > kMaxContextNameBytes) {
    return fail(ErrorKind::kInvalid, "the name has {} bytes; at most {} are allowed", name.size(), kMaxContextNameBytes);
  }
  const bool control = std::ranges::any_of(name, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
  if (control || !is_utf8(name)) return fail(ErrorKind::kInvalid, "the name must be UTF-8 without control characters");
  return {};
}

Result<RegisteredContext> read_context(const fs::path& path, const ContextHandle& handle) {
  CELSLM_TRY(const Bytes bytes, read_file(path, kMaxFileBytes));
  CELSLM_TRY(const json object, parse_object(as_text(bytes)));
  const JsonFields fields(object);
  CELSLM_TRY(std::string text, fields.required_text("text"));
  CELSLM_TRY(std::string name, fields.required_text("name"));
  CELSLM_TRY(const auto tenant, fields.text("tenant"));
  CELSLM_CHECK_OK(ContextRegistry::check(text, name));
  if (context_handle(text, tenant.value_or("")) != handle)
    return fail(ErrorKind::kInvalid, "the file's name must be the hash of its text, but is not");
  const std::uint64_t size = text.size();
  return RegisteredContext{{.handle = handle, .name = std::move(name), .bytes = size, .tenant = tenant.value_or("")},
                           std::move(text)};
}

std::string any_name() {
  std::random_device draw;
  return fmt::format("{:08x}{:08x}", draw(), draw());
}

}  // namespace

ContextRegistry::ContextRegistry(fs::path folder, Log log, std::size_t max_kept_changes)
    : folder_(std::move(folder)), log_(std::move(log)), max_kept_changes_(max_kept_changes), run_(any_name()) {}

Result<std::unique_ptr<ContextRegistry>> ContextRegistry::open(const fs::path& folder, Log log,
                                                               std::size_t max_kept_changes) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    return fail(ErrorKind::kIo, "{}: cannot create the folder of registered contexts: {}", folder.string(), error.message());
  std::unique_ptr<ContextRegistry> out(new ContextRegistry(folder, std::move(log), max_kept_changes));
  CELSLM_CHECK_OK(out->load());
  return out;
}

Status ContextRegistry::load() {
  CELSLM_CHECK_OK(remove_abandoned_files(folder_).transform([](int) {}));
  std::error_code error;
  std::vector<fs::path> paths;
  for (fs::directory_iterator it(folder_, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == kSuffix) paths.push_back(it->path());
  }
  if (error)
    return fail(ErrorKind::kIo, "{}: cannot read the folder of registered contexts: {}", folder_.string(), error.message());
  for (const fs::path& path : paths) load_file(path);
  return {};
}

void ContextRegistry::load_file(const fs::path& path) {
  const auto handle = Hash256::from_hex(path.stem().string());
  auto context = handle ? read_context(path, *handle) : Result<RegisteredContext>(std::unexpected(handle.error()));
  if (context) {
    const MutexLock lock(mutex_);
    bytes_ += context->info.bytes;
    contexts_.emplace(*handle, std::move(context->info));
    return;
  }
  fs::path aside = path;
  aside += ".bad";
  std::error_code error;
  fs::rename(path, aside, error);
  log_->warn("{}: {}; {}", path.string(), context.error().message,
             error ? "the file stays where it is" : "moved to " + aside.string());
}

fs::path ContextRegistry::path_of(const ContextHandle& handle) const {
  return folder_ / (handle.hex() + std::string(kSuffix));
}

Status ContextRegistry::check(std::string_view text, std::string_view name) {
  CELSLM_CHECK_OK(check_text(text));
  return check_name(name);
}

Result<ContextInfo> ContextRegistry::put(std::string_view text, std::string_view name, std::string_view tenant) {
  CELSLM_CHECK_OK(check(text, name));
  ContextInfo info{.handle = context_handle(text, tenant),
                   .name = std::string(name),
                   .bytes = text.size(),
                   .tenant = std::string(tenant)};
  // The lock is held over the write, so that two registrations of one text become one, and no handle is found before its
  // file exists. Registering is rare; reading texts does not wait for it.
  CELSLM_TRY(const bool is_new, insert(info, text));
  if (is_new && on_change_) on_change_();
  return info;
}

Result<bool> ContextRegistry::insert(ContextInfo& info, std::string_view text) {
  const MutexLock lock(mutex_);
  if (const auto it = contexts_.find(info.handle); it != contexts_.end()) {
    info = it->second;
    return false;
  }
  if (contexts_.size() >= kMaxContexts || bytes_ + info.bytes > kMaxRegisteredBytes) {
    return fail(ErrorKind::kOverloaded,
                "this cloud has room for {} contexts of {} bytes in total: remove some with 'celslm context rm'",
                kMaxContexts, kMaxRegisteredBytes);
  }
  json file{{"name", info.name}, {"text", text}};
  if (!info.tenant.empty()) file["tenant"] = info.tenant;
  CELSLM_CHECK_OK(write_file_atomically(path_of(info.handle), as_bytes(file.dump())));
  bytes_ += info.bytes;
  contexts_.emplace(info.handle, info);
  count_change(info.handle);
  return true;
}

Result<RegisteredContext> ContextRegistry::find(const ContextHandle& handle) const {
  if (!contains(handle)) return fail(ErrorKind::kNotFound, "no context {} is registered here", handle.hex());
  const fs::path path = path_of(handle);
  auto context = read_context(path, handle);
  if (!context && context.error().kind == ErrorKind::kInvalid) return wrap(std::move(context).error(), path.string());
  return context;
}

bool ContextRegistry::contains(const ContextHandle& handle) const {
  const MutexLock lock(mutex_);
  return contexts_.contains(handle);
}

bool ContextRegistry::contains(const ContextHandle& handle, const Caller& caller) const {
  const MutexLock lock(mutex_);
  const auto it = contexts_.find(handle);
  return it != contexts_.end() && caller.sees(it->second.tenant);
}

std::vector<ContextInfo> ContextRegistry::list() const {
  const MutexLock lock(mutex_);
  std::vector<ContextInfo> out;
  out.reserve(contexts_.size());
  for (const auto& [handle, info] : contexts_) out.push_back(info);
  return out;
}

Status ContextRegistry::remove(const ContextHandle& handle) {
  CELSLM_CHECK_OK(erase(handle));
  if (on_change_) on_change_();
  return {};
}

Status ContextRegistry::erase(const ContextHandle& handle) {
  const MutexLock lock(mutex_);
  const auto it = contexts_.find(handle);
  if (it == contexts_.end()) return fail(ErrorKind::kNotFound, "no context {} is registered here", handle.hex());
  std::error_code error;
  if (!fs::remove(path_of(handle), error) && error) {
    return fail(ErrorKind::kIo, "{}: cannot remove: {}", path_of(handle).string(), error.message());
  }
  bytes_ -= it->second.bytes;
  contexts_.erase(it);
  count_change(handle);
  return {};
}

void ContextRegistry::count_change(const ContextHandle& handle) {
  ++n_changes_;
  changes_.push_back(handle);
  if (changes_.size() > max_kept_changes_) changes_.pop_front();
}

std::string ContextRegistry::revision_now() const {
  return fmt::format("{}-{}", run_, n_changes_);
}

std::string ContextRegistry::revision() const {
  const MutexLock lock(mutex_);
  return revision_now();
}

std::optional<std::uint64_t> ContextRegistry::known_number(std::string_view revision) const {
  if (!revision.starts_with(run_) || !revision.substr(run_.size()).starts_with('-')) return std::nullopt;
  const std::string_view digits = revision.substr(run_.size() + 1);
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  if (number > n_changes_ || n_changes_ - number > changes_.size()) return std::nullopt;
  return number;
}

ContextList ContextRegistry::changes_since(std::string_view revision) const {
  const MutexLock lock(mutex_);
  ContextList out{.revision = revision_now(), .n_contexts = contexts_.size()};
  const auto number = known_number(revision);
  if (!number) {
    out.added.reserve(contexts_.size());
    for (const auto& [handle, info] : contexts_) out.added.push_back(info);
    return out;
  }
  out.since = revision;
  const auto n_newer = static_cast<std::ptrdiff_t>(n_changes_ - *number);
  for (const ContextHandle& handle : std::set<ContextHandle>(changes_.end() - n_newer, changes_.end())) {
    const auto it = contexts_.find(handle);
    if (it == contexts_.end()) {
      out.removed.push_back(handle);
    } else {
      out.added.push_back(it->second);
    }
  }
  return out;
}

std::size_t ContextRegistry::size() const {
  const MutexLock lock(mutex_);
  return contexts_.size();
}

}  // namespace celslm
