#include "serve/edge/pack_sharing.h"

#include "serve/wire/audited.h"
#include "serve/wire/errors.h"
#include "serve/wire/pack_stream.h"

namespace celslm {
namespace {

constexpr std::size_t kMaxOpen = 16;

HttpResponse unknown_pack(const Error& error) {
  return error_response(ApiError::kUnknownPack, error.message);
}

}  // namespace

void PackSharing::add_routes(HttpServer& server, const std::shared_ptr<AuditLog>& audit) {
  const std::string pack = "/v1/packs/:context/:model/:codec/";
  server.route("GET", pack + "header", audited(audit, "fetch", [this](const HttpRequest& r) { return get_header(r); }));
  server.route("GET", pack + "blocks", [this](const HttpRequest& r) { return get_blocks(r); });
}

Result<StoredPack> PackSharing::find(const HttpRequest& request) {
  CELSLM_TRY(const ContextHandle handle, Hash256::from_hex(request.parameter("context")));
  CELSLM_TRY(const Codec* codec, find_codec(request.parameter("codec")));
  auto identity = identify_(handle, codec->id(), request.caller);
  if (!identity || identity->model.id().hex() != request.parameter("model"))
    return fail(ErrorKind::kNotFound, "this edge has no pack of context {} for model {}", handle.hex(),
                request.parameter("model"));
  if (const std::string tuning = request.parameter("tuning"); !tuning.empty()) {
    CELSLM_TRY(const Hash256 tuning_id, Hash256::from_hex(tuning));
    set_tuning(*identity, tuning_id);
  }
  const Hash256 id = identity->id();
  const MutexLock lock(mutex_);
  if (const StoredPack* open = open_.find(id); open && open->complete()) return *open;
  CELSLM_TRY(const PublicKey signer, cloud_->known_key());
  CELSLM_TRY(StoredPack pack, store_->find(id, signer));
  open_.put(id, pack);
  if (open_.size() > kMaxOpen) open_.evict();
  return pack;
}

HttpResponse PackSharing::get_header(const HttpRequest& request) {
  const auto pack = find(request);
  if (!pack) return unknown_pack(pack.error());
  return header_response(*pack, request.parameter("blocks"), [this](std::size_t bytes) { sent_bytes_ += bytes; });
}

HttpResponse PackSharing::get_blocks(const HttpRequest& request) {
  const auto pack = find(request);
  if (!pack) return unknown_pack(pack.error());
  return blocks_response(*pack, request.header("range"), [this](std::size_t bytes) { sent_bytes_ += bytes; });
}

}  // namespace celslm
