#include "serve/edge/context_directory.h"

#include <algorithm>

#include "core/hash.h"
#include "serve/wire/context_text.h"

namespace celslm {
namespace {

constexpr std::size_t kMaxKeptTexts = 256;  // a few MiB each at most
// A registered text that is shorter is found in messages that are equal to it only: others would gain nothing.
constexpr std::size_t kShortestBeginning = 32;

std::unordered_map<ContextHandle, std::string> by_handle(const std::vector<std::string>& texts) {
  std::unordered_map<ContextHandle, std::string> out;
  for (const std::string& text : texts) {
    std::string plain = plain_context_text(text);
    const ContextHandle handle = context_handle(plain);
    out.emplace(handle, std::move(plain));
  }
  return out;
}

}  // namespace

ContextDirectory::ContextDirectory(std::shared_ptr<CloudClient> cloud, const std::vector<std::string>& own_texts,
                                   const Clock& clock, std::optional<KnownContexts> known)
    : cloud_(std::move(cloud)), own_(by_handle(own_texts)), clock_(clock), known_(std::move(known)) {
  const MutexLock lock(mutex_);
  if (!cloud_ || !known_) return;
  ContextList list = known_->load();
  revision_ = std::move(list.revision);
  on_device_ = std::move(list.on_device);
  for (ContextInfo& info : list.added) listed_.emplace(info.handle, std::move(info));
}

std::optional<std::string> ContextDirectory::longest_text(std::string_view message, const std::string& tenant) const {
  std::set<std::uint64_t> sizes;
  {
    const MutexLock lock(mutex_);
    const auto consider = [&](std::uint64_t bytes) {
      const bool fits = bytes <= message.size() && bytes >= kShortestBeginning;
      if (fits || bytes == message.size() || bytes == message.size() + 1) sizes.insert(bytes);
    };
    for (const auto& [handle, info] : listed_) {
      if (info.tenant == tenant) consider(info.bytes);
    }
    if (tenant.empty()) {
      for (const auto& [handle, text] : own_) consider(text.size());
    }
  }
  std::optional<std::string> longest;
  Hasher hasher = handle_hasher(tenant);
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

std::optional<ContextDirectory::Beginning> ContextDirectory::beginning(std::string_view message,
                                                                       const std::string& tenant) const {
  if (auto text = longest_text(message, tenant)) return Beginning{*std::move(text), std::string(message)};
  std::string plain = plain_context_text(message);
  if (plain == message) return std::nullopt;
  auto text = longest_text(plain, tenant);
  return text ? std::optional(Beginning{*std::move(text), std::move(plain)}) : std::nullopt;
}

bool ContextDirectory::contains(const ContextHandle& handle) const {
  const MutexLock lock(mutex_);
  return is_own(handle) || listed_.contains(handle);
}

bool ContextDirectory::is_public(const ContextHandle& handle) const {
  const MutexLock lock(mutex_);
  return !is_own(handle) && listed_.contains(handle);
}

bool ContextDirectory::is_listed(const ContextHandle& handle, const std::string& tenant) const {
  const MutexLock lock(mutex_);
  const auto it = listed_.find(handle);
  return !is_own(handle) && it != listed_.end() && it->second.tenant == tenant;
}

std::optional<std::string> ContextDirectory::tenant_of(const ContextHandle& handle) const {
  if (is_own(handle)) return "";
  const MutexLock lock(mutex_);
  const auto it = listed_.find(handle);
  return it == listed_.end() ? std::nullopt : std::optional(it->second.tenant);
}

std::uint64_t ContextDirectory::bytes_of(const ContextHandle& handle) const {
  if (const auto own = own_.find(handle); own != own_.end()) return own->second.size();
  const MutexLock lock(mutex_);
  const auto listed = listed_.find(handle);
  return listed == listed_.end() ? 0 : listed->second.bytes;
}

std::vector<ContextInfo> ContextDirectory::list() const {
  std::vector<ContextInfo> out;
  const MutexLock lock(mutex_);
  out.reserve(listed_.size() + own_.size());
  for (const auto& [handle, info] : listed_) out.push_back(info);
  for (const auto& [handle, text] : own_) {
    if (!listed_.contains(handle)) out.push_back({.handle = handle, .bytes = text.size()});
  }
  return out;
}

std::optional<ContextHandle> ContextDirectory::find(const std::function<bool(const ContextHandle&)>& wanted) const {
  std::vector<ContextHandle> handles;
  {
    const MutexLock lock(mutex_);
    handles.reserve(own_.size() + listed_.size());
    for (const auto& [handle, text] : own_) handles.push_back(handle);
    for (const auto& [handle, info] : listed_) handles.push_back(handle);
  }
  const auto it = std::ranges::find_if(handles, wanted);
  return it == handles.end() ? std::nullopt : std::optional(*it);
}

std::optional<ContextStudy> ContextDirectory::study(const ContextHandle& handle, const Hash256& model) const {
  const MutexLock lock(mutex_);
  const auto known = listed_.find(handle);
  if (known == listed_.end() || is_own(handle)) return std::nullopt;
  const auto offer = std::ranges::find(known->second.studied, model, &StudiedOffer::model);
  return offer == known->second.studied.end() ? std::nullopt : std::optional(offer->study);
}

bool ContextDirectory::on_device(const Hash256& model) const {
  const MutexLock lock(mutex_);
  return std::ranges::contains(on_device_, model);
}

std::unexpected<Error> ContextDirectory::unknown(const ContextHandle& handle) const {
  if (!cloud_) return fail(ErrorKind::kNotFound, "unknown context {}: no cloud is configured (--cloud URL)", handle.hex());
  const std::string trouble = cloud_trouble();
  return fail(ErrorKind::kNotFound, "unknown context {}: it is not in the list of {}{}", handle.hex(), cloud_->url(),
              trouble.empty() ? "" : ", which could not be read again: " + trouble);
}

Result<std::string> ContextDirectory::text(const ContextHandle& handle, const std::string& tenant) {
  if (const auto own = own_.find(handle); own != own_.end() && tenant.empty()) return own->second;
  if (!is_listed(handle, tenant)) refresh_for_request();
  if (!is_listed(handle, tenant)) return unknown(handle);
  {
    const MutexLock lock(mutex_);
    if (const auto it = texts_.find(handle); it != texts_.end()) return it->second;
    auto kept = known_ ? known_->text(handle, tenant) : std::nullopt;
    if (kept) return *std::move(kept);
  }
  auto text = cloud_->context_text(handle, tenant);
  if (!text) return wrap(std::move(text).error(), "context " + handle.hex());
  const MutexLock lock(mutex_);
  if (texts_.size() >= kMaxKeptTexts) texts_.clear();
  texts_[handle] = *text;
  if (known_) known_->keep_text(handle, *text);
  return text;
}

// The first that asks does it for all, who wait for no longer than the call may take.
void ContextDirectory::refresh_for_request() {
  if (!cloud_) return;
  {
    const MutexLock lock(mutex_);
    if (asking_) return asked_.wait(mutex_, [&]() CELSLM_REQUIRES(mutex_) { return !asking_; });
    if (last_asked_ && clock_.now() - *last_asked_ < kAskAgain) return;
    asking_ = true;
    last_asked_ = clock_.now();
  }
  (void)refresh({.limit = kPatience});
  const MutexLock lock(mutex_);
  asking_ = false;
  asked_.notify_all();
}

void ContextDirectory::remember(std::string_view text, const std::string& tenant) {
  const ContextHandle handle = context_handle(text, tenant);
  const MutexLock lock(mutex_);
  if (known_ && listed_.contains(handle) && !is_own(handle)) known_->keep_text(handle, text);
}

Status ContextDirectory::remove(const ContextHandle& handle, const std::string& tenant) {
  if (is_own(handle) && tenant.empty())
    return fail(ErrorKind::kInvalid, "this context is a text of the edge's own: start it without that --context");
  if (!cloud_) return fail(ErrorKind::kUnavailable, "no cloud is configured (--cloud URL)");
  if (!is_listed(handle, tenant)) refresh_for_request();
  if (!is_listed(handle, tenant)) return unknown(handle);
  CELSLM_CHECK_OK(cloud_->remove_context(handle, tenant));
  (void)refresh({.limit = kPatience});
  const MutexLock lock(mutex_);
  texts_.erase(handle);
  if (listed_.erase(handle) > 0) revision_.clear();  // it could not be read; this is not the list of any revision
  return {};
}

Result<ContextInfo> ContextDirectory::put(std::string_view text, std::string_view name, bool prefill,
                                          const std::string& tenant) {
  if (!cloud_) return fail(ErrorKind::kUnavailable, "no cloud is configured (--cloud URL)");
  CELSLM_TRY(ContextInfo info, cloud_->put_context(text, name, prefill, tenant));
  if (info.tenant != tenant)
    return fail(ErrorKind::kMismatch,
                "the cloud knows this edge as tenant '{}' and registered the text for that one, not '{}'", info.tenant,
                tenant);
  (void)refresh({.limit = kPatience});
  const MutexLock lock(mutex_);
  if (listed_.try_emplace(info.handle, info).second) revision_.clear();
  return info;
}

Result<std::optional<ContextList>> ContextDirectory::ask(const std::string& since, const Wait& wait) {
  return cloud_->contexts({.since = since, .wait = wait.for_change, .limit = wait.limit, .stop = wait.stop});
}

// Changes that cannot be used are replaced by the complete list.
Result<ContextDirectory::Refreshed> ContextDirectory::refresh(const Wait& wait) {
  if (!cloud_) return fail(ErrorKind::kUnavailable, "no cloud is configured (--cloud URL)");
  std::string since;
  {
    const MutexLock lock(mutex_);
    since = revision_;
  }
  auto refreshed = take(ask(since, wait), since);
  if (refreshed || since.empty()) return refreshed;
  const ErrorKind kind = refreshed.error().kind;
  if (kind != ErrorKind::kInvalid && kind != ErrorKind::kMismatch) return refreshed;
  return take(ask("", {.limit = wait.limit, .stop = wait.stop}), "");
}

Result<ContextDirectory::Refreshed> ContextDirectory::take(Result<std::optional<ContextList>> answer,
                                                           const std::string& since) {
  const MutexLock lock(mutex_);
  auto out = answer ? use(*std::move(answer), since) : Result<Refreshed>(std::unexpected(std::move(answer).error()));
  in_touch_ = out.has_value();
  if (out) {
    cloud_trouble_.clear();
  } else if (out.error().kind != ErrorKind::kCancelled) {
    cloud_trouble_ = out.error().message;
  }
  return out;
}

// Changes of another list than the one that is here now are of no use: another call was faster.
Result<ContextDirectory::Refreshed> ContextDirectory::use(std::optional<ContextList> list, const std::string& since) {
  Refreshed out{.changed = list.has_value(), .complete = list && list->complete()};
  if (list && (list->complete() || revision_ == since)) CELSLM_CHECK_OK(apply(*std::move(list)));
  out.has_revision = !revision_.empty();
  return out;
}

Status ContextDirectory::apply(ContextList list) {
  if (list.complete()) listed_.clear();
  for (const ContextHandle& handle : list.removed) listed_.erase(handle);
  for (ContextInfo& info : list.added) listed_.insert_or_assign(info.handle, std::move(info));
  revision_ = std::move(list.revision);
  on_device_ = std::move(list.on_device);
  if (!list.complete() && listed_.size() != list.n_contexts) {
    revision_.clear();
    return fail(ErrorKind::kMismatch, "{}/v1/contexts: the list has {} contexts, with the changes it should have {}",
                cloud_->url(), listed_.size(), list.n_contexts);
  }
  std::erase_if(texts_, [&](const auto& known) CELSLM_REQUIRES(mutex_) { return !listed_.contains(known.first); });
  remember_list();
  return {};
}

void ContextDirectory::remember_list() {
  if (!known_) return;
  ContextList list{.revision = revision_, .on_device = on_device_};
  list.added.reserve(listed_.size());
  for (const auto& [handle, info] : listed_) list.added.push_back(info);
  known_->save(std::move(list));
}

bool ContextDirectory::in_touch() const {
  const MutexLock lock(mutex_);
  return in_touch_;
}

std::string ContextDirectory::cloud_trouble() const {
  const MutexLock lock(mutex_);
  return cloud_trouble_;
}

}  // namespace celslm
