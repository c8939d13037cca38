// Which contexts an edge knows: those registered, and texts by handle.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/mutex.h"
#include "core/result.h"
#include "serve/wire/cloud_client.h"

namespace celslm {

// A context is registered if the cloud listed it at the last refresh or if it is one of this edge's own texts. Whether a
// request's system message is registered is therefore answered here, by hash, and no text of a user's leaves the edge.
//
// Thread-safe, without threads of its own. refresh(), put() and text() wait for the cloud's answer; no lock is held
// meanwhile.
class ContextDirectory {
 public:
  // cloud may be null: then only `own_texts` are registered.
  ContextDirectory(std::shared_ptr<CloudClient> cloud, std::vector<std::string> own_texts);

  bool contains(const ContextHandle& handle) const CELSLM_EXCLUDES(mutex_);
  std::vector<ContextInfo> list() const CELSLM_EXCLUDES(mutex_);
  // Some registered context for which `wanted` is true. It is called with the directory locked and must not call it.
  std::optional<ContextHandle> find(const std::function<bool(const ContextHandle&)>& wanted) const CELSLM_EXCLUDES(mutex_);

  // The study of a context for this model that the cloud listed at the last refresh.
  std::optional<ContextStudy> study(const ContextHandle& handle, const Hash256& model) const CELSLM_EXCLUDES(mutex_);

  // A context's text: kept here, or from the cloud. kNotFound if it is known neither here nor there; else as CloudClient.
  Result<std::string> text(const ContextHandle& handle) CELSLM_EXCLUDES(mutex_);

  // Registers a text at the cloud. kUnavailable without one; else as CloudClient.
  Result<ContextInfo> put(std::string_view text, std::string_view name) CELSLM_EXCLUDES(mutex_);
  // Reads the cloud's list. After an error the contexts of the last successful refresh stay registered: a dead link must not
  // turn a shared context into a private text. kUnavailable without a cloud; else as CloudClient.
  Status refresh() CELSLM_EXCLUDES(mutex_);
  // Why the last refresh failed, for users; empty if it did not.
  std::string cloud_trouble() const CELSLM_EXCLUDES(mutex_);

 private:
  void register_own_texts() CELSLM_REQUIRES(mutex_);

  const std::shared_ptr<CloudClient> cloud_;
  const std::vector<std::string> own_texts_;
  mutable Mutex mutex_;
  std::unordered_map<ContextHandle, ContextInfo> registered_ CELSLM_GUARDED_BY(mutex_);
  std::unordered_map<ContextHandle, std::string> texts_ CELSLM_GUARDED_BY(mutex_);  // own ones and those asked for by handle
  std::string cloud_trouble_ CELSLM_GUARDED_BY(mutex_);
};

}  // namespace celslm
