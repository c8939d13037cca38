#include "serve/edge/context_directory.h"

#include <algorithm>

#include "core/hash.h"
#include "serve/wire/context_text.h"

namespace celslm {
namespace {

constexpr std::size_t kMaxKeptTexts = 256;  // a few MiB each at most
// A registered text that is shorter is found in messages that are equal to it only: others would gain nothing.
constexpr std::size_t kShortestBeginning = 32;

std::vector<std::string> all_plain(const std::vector<std::string>& texts) {
  std::vector<std::string> out;
  out.reserve(texts.size());
  for (const std::string& text : texts) out.push_back(plain_context_text(text));
  return out;
}

}  // namespace

ContextDirectory::ContextDirectory(std::shared_ptr<CloudClient> cloud, const std::vector<std::string>& own_texts,
                                   std::optional<KnownContexts> known)
    : cloud_(std::move(cloud)), own_texts_(all_plain(own_texts)), known_(std::move(known)) {
  const MutexLock lock(mutex_);
  if (cloud_ && known_) {
    for (ContextInfo& info : known_->load()) registered_.emplace(info.handle, std::move(info));
  }
  register_own_texts();
}

void ContextDirectory::register_own_texts() {
  for (const std::string& text : own_texts_) {
    const ContextHandle handle = context_handle(text);
    registered_.try_emplace(handle, ContextInfo{.handle = handle, .bytes = text.size()});
    texts_[handle] = text;
  }
}

std::optional<std::string> ContextDirectory::longest_text(std::string_view message) const {
  std::set<std::uint64_t> sizes;
  {
    const MutexLock lock(mutex_);
    for (const auto& [handle, info] : registered_) {
      const bool fits = info.bytes <= message.size() && info.bytes >= kShortestBeginning;
      if (fits || info.bytes == message.size() || info.bytes == message.size() + 1) sizes.insert(info.bytes);
    }
  }
  std::optional<std::string> longest;
  Hasher hasher;
  std::size_t hashed = 0;
  for (const std::uint64_t size : sizes) {
    const std::size_t end = std::min<std::size_t>(size, message.size());
    hasher.update(message.substr(hashed, end - hashed));
    hashed = end;
    std::string_view missing;
    if (size > message.size()) missing = "\n";
    hasher.update(missing);
    if (contains(hasher.finish())) longest = std::string(message.substr(0, end)).append(missing);
  }
  return longest;
}

std::optional<ContextDirectory::Beginning> ContextDirectory::beginning(std::string_view message) const {
  if (auto text = longest_text(message)) return Beginning{*std::move(text), std::string(message)};
  std::string plain = plain_context_text(message);
  if (plain == message) return std::nullopt;
  auto text = longest_text(plain);
  return text ? std::optional(Beginning{*std::move(text), std::move(plain)}) : std::nullopt;
}

bool ContextDirectory::contains(const ContextHandle& handle) const {
  const MutexLock lock(mutex_);
  return registered_.contains(handle);
}

std::vector<ContextInfo> ContextDirectory::list() const {
  std::vector<ContextInfo> out;
  const MutexLock lock(mutex_);
  out.reserve(registered_.size());
  for (const auto& [handle, info] : registered_) out.push_back(info);
  return out;
}

std::optional<ContextHandle> ContextDirectory::find(const std::function<bool(const ContextHandle&)>& wanted) const {
  const MutexLock lock(mutex_);
  const auto it = std::ranges::find_if(registered_, [&](const auto& known) { return wanted(known.first); });
  return it == registered_.end() ? std::nullopt : std::optional(it->first);
}

std::optional<ContextStudy> ContextDirectory::study(const ContextHandle& handle, const Hash256& model) const {
  const MutexLock lock(mutex_);
  const auto known = registered_.find(handle);
  if (known == registered_.end()) return std::nullopt;
  const auto offer = std::ranges::find(known->second.studied, model, &StudiedOffer::model);
  return offer == known->second.studied.end() ? std::nullopt : std::optional(offer->study);
}

Result<std::string> ContextDirectory::text(const ContextHandle& handle) {
  {
    const MutexLock lock(mutex_);
    if (const auto it = texts_.find(handle); it != texts_.end()) return it->second;
    auto kept = known_ && registered_.contains(handle) ? known_->text(handle) : std::nullopt;
    if (kept) return *std::move(kept);
  }
  if (!cloud_) return fail(ErrorKind::kNotFound, "unknown context {}: no cloud is configured (--cloud URL)", handle.hex());
  auto text = cloud_->context_text(handle);
  if (!text) return wrap(std::move(text).error(), "context " + handle.hex());
  const MutexLock lock(mutex_);
  if (texts_.size() >= kMaxKeptTexts) {
    texts_.clear();
    register_own_texts();
  }
  texts_[handle] = *text;
  if (known_) known_->keep_text(handle, *text);
  return text;
}

void ContextDirectory::remember(std::string_view text) {
  const ContextHandle handle = context_handle(text);
  const MutexLock lock(mutex_);
  if (known_ && registered_.contains(handle) && !is_own(handle)) known_->keep_text(handle, text);
}

bool ContextDirectory::is_own(const ContextHandle& handle) const {
  return std::ranges::contains(own_texts_, handle, [](const std::string& text) { return context_handle(text); });
}

Status ContextDirectory::remove(const ContextHandle& handle) {
  if (is_own(handle))
    return fail(ErrorKind::kInvalid, "this context is a text of the edge's own: start it without that --context");
  if (!cloud_) return fail(ErrorKind::kUnavailable, "no cloud is configured (--cloud URL)");
  CELSLM_CHECK_OK(cloud_->remove_context(handle));
  const MutexLock lock(mutex_);
  registered_.erase(handle);
  texts_.erase(handle);
  return {};
}

Result<ContextInfo> ContextDirectory::put(std::string_view text, std::string_view name, bool prefill) {
  if (!cloud_) return fail(ErrorKind::kUnavailable, "no cloud is configured (--cloud URL)");
  CELSLM_TRY(ContextInfo info, cloud_->put_context(text, name, prefill));
  const MutexLock lock(mutex_);
  registered_[info.handle] = info;
  return info;
}

Status ContextDirectory::refresh() {
  if (!cloud_) return fail(ErrorKind::kUnavailable, "no cloud is configured (--cloud URL)");
  auto contexts = cloud_->contexts();
  const MutexLock lock(mutex_);
  if (!contexts) {
    cloud_trouble_ = contexts.error().message;
    return std::unexpected(std::move(contexts).error());
  }
  cloud_trouble_.clear();
  registered_.clear();
  if (known_) known_->save(*contexts);
  for (ContextInfo& info : *contexts) registered_.emplace(info.handle, std::move(info));
  register_own_texts();
  std::erase_if(texts_, [&](const auto& known) CELSLM_REQUIRES(mutex_) { return !registered_.contains(known.first); });
  return {};
}

std::string ContextDirectory::cloud_trouble() const {
  const MutexLock lock(mutex_);
  return cloud_trouble_;
}

}  // namespace celslm
