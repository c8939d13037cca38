#include "serve/edge/context_directory.h"

#include <algorithm>

namespace celslm {
namespace {

constexpr std::size_t kMaxKeptTexts = 256;  // a few MiB each at most

}  // namespace

ContextDirectory::ContextDirectory(std::shared_ptr<CloudClient> cloud, std::vector<std::string> own_texts)
    : cloud_(std::move(cloud)), own_texts_(std::move(own_texts)) {
  const MutexLock lock(mutex_);
  register_own_texts();
}

void ContextDirectory::register_own_texts() {
  for (const std::string& text : own_texts_) {
    const ContextHandle handle = context_handle(text);
    registered_.try_emplace(handle, ContextInfo{.handle = handle, .bytes = text.size()});
    texts_[handle] = text;
  }
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
  }
  if (!cloud_) return fail(ErrorKind::kNotFound, "unknown context {}: no cloud is configured (--cloud URL)", handle.hex());
  auto text = cloud_->context_text(handle);
  if (!text) return wrap(std::move(text).error(), "context " + handle.hex());
  const MutexLock lock(mutex_);
  if (texts_.size() >= kMaxKeptTexts) texts_.clear();
  texts_[handle] = *text;
  return text;
}

Result<ContextInfo> ContextDirectory::put(std::string_view text, std::string_view name) {
  if (!cloud_) return fail(ErrorKind::kUnavailable, "no cloud is configured (--cloud URL)");
  CELSLM_TRY(ContextInfo info, cloud_->put_context(text, name));
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
  for (ContextInfo& info : *contexts) registered_.emplace(info.handle, std::move(info));
  register_own_texts();
  return {};
}

std::string ContextDirectory::cloud_trouble() const {
  const MutexLock lock(mutex_);
  return cloud_trouble_;
}

}  // namespace celslm
