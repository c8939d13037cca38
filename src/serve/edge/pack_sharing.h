// An edge's packs for other edges of the same cloud: the two routes of the cloud's protocol that a reader of a finished pack
// needs.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "core/lru.h"
#include "core/mutex.h"
#include "core/result.h"
#include "kv/store/pack_store.h"
#include "net/access/audit_log.h"
#include "net/http_server.h"
#include "serve/wire/cloud_client.h"
#include "serve/wire/protocol.h"

namespace celslm {

// Serves only packs that are complete in the store: nothing is ever computed or fetched for a peer. Thread-safe.
class PackSharing {
 public:
  // The identity of the pack with the model's own KV of a context that is in this edge's memory and that the caller may see;
  // nullopt for others.
  using Identify = std::function<std::optional<PackIdentity>(const ContextHandle&, CodecId, const Caller&)>;
  PackSharing(std::shared_ptr<PackStore> store, std::shared_ptr<CloudClient> cloud, Identify identify)
      : store_(std::move(store)), cloud_(std::move(cloud)), identify_(std::move(identify)) {}

  // Before the server starts; this must outlive it.
  void add_routes(HttpServer& server, const std::shared_ptr<AuditLog>& audit);
  std::uint64_t sent_bytes() const { return sent_bytes_.load(); }

 private:
  Result<StoredPack> find(const HttpRequest& request) CELSLM_EXCLUDES(mutex_);
  HttpResponse get_header(const HttpRequest& request);
  HttpResponse get_blocks(const HttpRequest& request);

  const std::shared_ptr<PackStore> store_;
  const std::shared_ptr<CloudClient> cloud_;
  const Identify identify_;
  std::atomic<std::uint64_t> sent_bytes_{0};
  Mutex mutex_;
  // By pack id. Kept open, so that a pack's many block requests parse its header once.
  Lru<Hash256, StoredPack> open_ CELSLM_GUARDED_BY(mutex_);
};

}  // namespace celslm
