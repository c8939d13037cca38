// Which contexts an edge knows: those registered, and texts by handle.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/clock.h"
#include "core/mutex.h"
#include "core/result.h"
#include "serve/edge/known_contexts.h"
#include "serve/wire/cloud_client.h"

namespace celslm {

// A context is registered if the cloud listed it at the last refresh or if it is one of this edge's own texts. Whether a
// request's system message is registered is therefore answered here, by hash, and no text of a user's leaves the edge.
// Neither does a handle that the cloud has not listed, or that of one of the edge's own texts.
//
// A context belongs to a tenant (empty: the default one, whose the edge's own texts are). What is asked for a tenant is
// answered as if there were no others, in the same time.
//
// Thread-safe, without threads of its own. refresh(), put(), remove() and text() wait for the cloud's answer; no lock is
// held meanwhile.
class ContextDirectory {
 public:
  // cloud may be null: then only `own_texts` are registered. known: what this edge remembers of the cloud's contexts, until
  // the first refresh that succeeds.
  // The clock must outlive this.
  ContextDirectory(std::shared_ptr<CloudClient> cloud, const std::vector<std::string>& own_texts, const Clock& clock,
                   std::optional<KnownContexts> known = {});

  bool contains(const ContextHandle& handle) const CELSLM_EXCLUDES(mutex_);
  // Whether other nodes may be asked for this context: the cloud lists it, and it is not one of the edge's own texts.
  bool is_public(const ContextHandle& handle) const CELSLM_EXCLUDES(mutex_);
  std::vector<ContextInfo> list() const CELSLM_EXCLUDES(mutex_);
  // Of its text; 0 if it is not registered.
  std::uint64_t bytes_of(const ContextHandle& handle) const CELSLM_EXCLUDES(mutex_);
  // Some registered context for which `wanted` is true. It is called without locks: whoever looks into other tables in it,
  // and into the directory while those are locked, would lock both in either order.
  std::optional<ContextHandle> find(const std::function<bool(const ContextHandle&)>& wanted) const CELSLM_EXCLUDES(mutex_);

  // The registered text that a message begins with.
  struct Beginning {
    std::string text;
    std::string message;  // the message, or its plain form (plain_context_text()) where only that begins with the text
  };
  // The longest one that it begins with in full; a line break at the text's end may be missing at the message's. Compares
  // hashes of the message's beginnings: no text has to be known for it.
  std::optional<Beginning> beginning(std::string_view message, const std::string& tenant = {}) const CELSLM_EXCLUDES(mutex_);

  // The study of a context for this model that the cloud listed at the last refresh.
  std::optional<ContextStudy> study(const ContextHandle& handle, const Hash256& model) const CELSLM_EXCLUDES(mutex_);

  // Whether the cloud computes this model's KV on a device, as of the last refresh.
  bool on_device(const Hash256& model) const CELSLM_EXCLUDES(mutex_);

  // A registered context's text: kept here, or from the cloud. kNotFound if it is not registered. Before that the list is
  // read once more, for all that ask at the same time together, for at most kPatience, and not more often than every
  // kAskAgain. Else as CloudClient.
  static constexpr std::chrono::milliseconds kPatience{3'000};
  static constexpr Duration kAskAgain = std::chrono::seconds(3);
  Result<std::string> text(const ContextHandle& handle, const std::string& tenant = {}) CELSLM_EXCLUDES(mutex_);
  // Whose a registered context is; nullopt if it is not registered.
  std::optional<std::string> tenant_of(const ContextHandle& handle) const CELSLM_EXCLUDES(mutex_);

  // Registers a text at the cloud. kUnavailable without one; kMismatch if the cloud knows this edge as another tenant's;
  // else as CloudClient.
  // prefill: the cloud computes its KV at once.
  Result<ContextInfo> put(std::string_view text, std::string_view name, bool prefill, const std::string& tenant = {})
      CELSLM_EXCLUDES(mutex_);
  // Removes a registration at the cloud. kInvalid for one of this edge's own texts; kUnavailable without a cloud; else as
  // CloudClient.
  Status remove(const ContextHandle& handle, const std::string& tenant = {}) CELSLM_EXCLUDES(mutex_);
  // Keeps a registered text for requests that name it by its handle while the cloud cannot be reached.
  void remember(std::string_view text, const std::string& tenant = {}) CELSLM_EXCLUDES(mutex_);
  // Reads what changed of the cloud's list. After an error the contexts of the last successful refresh stay registered: a
  // dead link must not turn a shared context into a private text. kUnavailable without a cloud; else as CloudClient.
  struct Wait {
    std::chrono::seconds for_change{0};  // how long the cloud may hold its answer, if it can and the list is known already
    std::chrono::milliseconds limit{0};  // for all of it; 0: as long as bytes come
    std::stop_token stop;
  };
  struct Refreshed {
    bool changed = false;
    bool complete = false;      // the list came in full: at first, or the cloud has started again
    bool has_revision = false;  // the cloud can hold its answer
  };
  Result<Refreshed> refresh(const Wait& wait) CELSLM_EXCLUDES(mutex_);
  // Whether the last refresh succeeded.
  bool in_touch() const CELSLM_EXCLUDES(mutex_);
  // Why the last refresh failed, for users; empty if it did not.
  std::string cloud_trouble() const CELSLM_EXCLUDES(mutex_);
  std::string cloud_url() const { return cloud_ ? cloud_->url() : ""; }

 private:
  Result<std::optional<ContextList>> ask(const std::string& since, const Wait& wait);
  Result<Refreshed> take(Result<std::optional<ContextList>> answer, const std::string& since) CELSLM_EXCLUDES(mutex_);
  Result<Refreshed> use(std::optional<ContextList> list, const std::string& since) CELSLM_REQUIRES(mutex_);
  Status apply(ContextList list) CELSLM_REQUIRES(mutex_);
  void remember_list() CELSLM_REQUIRES(mutex_);
  void refresh_for_request() CELSLM_EXCLUDES(mutex_);
  bool is_own(const ContextHandle& handle) const { return own_.contains(handle); }
  std::unexpected<Error> unknown(const ContextHandle& handle) const CELSLM_EXCLUDES(mutex_);
  std::optional<std::string> longest_text(std::string_view message, const std::string& tenant) const CELSLM_EXCLUDES(mutex_);
  // Whether it is in the cloud's list as this tenant's, and not one of the edge's own.
  bool is_listed(const ContextHandle& handle, const std::string& tenant) const CELSLM_EXCLUDES(mutex_);

  const std::shared_ptr<CloudClient> cloud_;
  const std::unordered_map<ContextHandle, std::string> own_;  // texts, plain
  const Clock& clock_;
  mutable Mutex mutex_;
  ConditionVariable asked_;
  std::optional<KnownContexts> known_ CELSLM_GUARDED_BY(mutex_);
  std::unordered_map<ContextHandle, ContextInfo> listed_ CELSLM_GUARDED_BY(mutex_);  // by the cloud
  std::vector<Hash256> on_device_ CELSLM_GUARDED_BY(mutex_);                         // models
  std::string revision_ CELSLM_GUARDED_BY(mutex_);                                   // of that list; empty: unknown
  std::unordered_map<ContextHandle, std::string> texts_ CELSLM_GUARDED_BY(mutex_);   // of listed ones, asked for by handle
  std::string cloud_trouble_ CELSLM_GUARDED_BY(mutex_);
  bool in_touch_ CELSLM_GUARDED_BY(mutex_) = false;
  bool asking_ CELSLM_GUARDED_BY(mutex_) = false;  // for a request that named an unknown handle
  std::optional<TimePoint> last_asked_ CELSLM_GUARDED_BY(mutex_);
};

}  // namespace celslm
