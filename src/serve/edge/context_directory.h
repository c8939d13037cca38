// Which contexts an edge knows: those registered, and texts by handle.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/mutex.h"
#include "core/result.h"
#include "serve/edge/known_contexts.h"
#include "serve/wire/cloud_client.h"

namespace celslm {

// A context is registered if the cloud listed it at the last refresh or if it is one of this edge's own texts. Whether a
// request's system message is registered is therefore answered here, by hash, and no text of a user's leaves the edge.
//
// Thread-safe, without threads of its own. refresh(), put(), remove() and text() wait for the cloud's answer; no lock is
// held meanwhile.
class ContextDirectory {
 public:
  // cloud may be null: then only `own_texts` are registered. known: what this edge remembers of the cloud's contexts, until
  // the first refresh that succeeds.
  ContextDirectory(std::shared_ptr<CloudClient> cloud, const std::vector<std::string>& own_texts,
                   std::optional<KnownContexts> known = {});

  bool contains(const ContextHandle& handle) const CELSLM_EXCLUDES(mutex_);
  std::vector<ContextInfo> list() const CELSLM_EXCLUDES(mutex_);
  // Some registered context for which `wanted` is true. It is called with the directory locked and must not call it.
  std::optional<ContextHandle> find(const std::function<bool(const ContextHandle&)>& wanted) const CELSLM_EXCLUDES(mutex_);

  // The registered text that a message begins with.
  struct Beginning {
    std::string text;
    std::string message;  // the message, or its plain form (plain_context_text()) where only that begins with the text
  };
  // The longest one that it begins with in full; a line break at the text's end may be missing at the message's. Compares
  // hashes of the message's beginnings: no text has to be known for it.
  std::optional<Beginning> beginning(std::string_view message) const CELSLM_EXCLUDES(mutex_);

  // The study of a context for this model that the cloud listed at the last refresh.
  std::optional<ContextStudy> study(const ContextHandle& handle, const Hash256& model) const CELSLM_EXCLUDES(mutex_);

  // A context's text: kept here while it is registered, or from the cloud. kNotFound if it is known neither here nor there;
  // else as CloudClient.
  Result<std::string> text(const ContextHandle& handle) CELSLM_EXCLUDES(mutex_);

  // Registers a text at the cloud. kUnavailable without one; else as CloudClient.
  // prefill: the cloud computes its KV at once.
  Result<ContextInfo> put(std::string_view text, std::string_view name, bool prefill) CELSLM_EXCLUDES(mutex_);
  // Removes a registration at the cloud. kInvalid for one of this edge's own texts; kUnavailable without a cloud; else as
  // CloudClient.
  Status remove(const ContextHandle& handle) CELSLM_EXCLUDES(mutex_);
  // Keeps a registered text for requests that name it by its handle while the cloud cannot be reached.
  void remember(std::string_view text) CELSLM_EXCLUDES(mutex_);
  // Reads the cloud's list. After an error the contexts of the last successful refresh stay registered: a dead link must not
  // turn a shared context into a private text. kUnavailable without a cloud; else as CloudClient.
  Status refresh() CELSLM_EXCLUDES(mutex_);
  // Why the last refresh failed, for users; empty if it did not.
  std::string cloud_trouble() const CELSLM_EXCLUDES(mutex_);
  std::string cloud_url() const { return cloud_ ? cloud_->url() : ""; }

 private:
  void register_own_texts() CELSLM_REQUIRES(mutex_);
  bool is_own(const ContextHandle& handle) const;
  std::optional<std::string> longest_text(std::string_view message) const CELSLM_EXCLUDES(mutex_);

  const std::shared_ptr<CloudClient> cloud_;
  const std::vector<std::string> own_texts_;  // plain
  mutable Mutex mutex_;
  std::optional<KnownContexts> known_ CELSLM_GUARDED_BY(mutex_);
  std::unordered_map<ContextHandle, ContextInfo> registered_ CELSLM_GUARDED_BY(mutex_);
  std::unordered_map<ContextHandle, std::string> texts_ CELSLM_GUARDED_BY(mutex_);  // own ones and those asked for by handle
  std::string cloud_trouble_ CELSLM_GUARDED_BY(mutex_);
};

}  // namespace celslm
