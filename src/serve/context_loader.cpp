#include "serve/context_loader.h"

#include "serve/pack_fetch.h"

namespace celslm {

ContextLoader::ContextLoader(std::shared_ptr<const Model> model, std::shared_ptr<CloudClient> cloud,
                             std::shared_ptr<PackStore> store, const Clock& clock, const LoaderOptions& options, Log log)
    : model_(std::move(model)),
      cloud_(std::move(cloud)),
      store_(std::move(store)),
      clock_(clock),
      options_(options),
      log_(std::move(log)) {}

ContextLoader::~ContextLoader() {
  const std::scoped_lock lock(mutex_);
  for (Job& job : jobs_) job.thread.request_stop();
  jobs_.clear();
}

void ContextLoader::load(std::shared_ptr<ResidentContext> context) {
  const std::scoped_lock lock(mutex_);
  jobs_.remove_if([](const Job& job) { return job.done.load(); });
  Job& job = jobs_.emplace_back();
  job.thread = std::jthread([this, &job, held = std::move(context)](std::stop_token stop) {
    run(*held, stop);
    job.done.store(true);
  });
}

PackIdentity ContextLoader::identity_of(const ResidentContext& context, const Codec& codec) const {
  return {.context = context.id,
          .tokens = context.tokens,
          .model = model_->fingerprint(),
          .provenance = Provenance::kProxy,
          .codec = codec.id()};
}

void ContextLoader::run(ResidentContext& context, std::stop_token stop) {
  const auto codec = find_codec(options_.codec);
  if (!codec) return context.give_up(codec.error().message);
  const PackIdentity identity = identity_of(context, **codec);
  context.set_codec(options_.codec);
  if (from_disk(context, identity)) return;
  const Status fetched = from_cloud(context, identity, stop);
  if (fetched) return;
  log_->warn("context {}: {}; computing layers {} to {} here", context.handle.hex().substr(0, 12), fetched.error().message,
             context.ready_layers(), context.n_layers() - 1);
  context.give_up(fetched.error().message);
}

Status ContextLoader::from_disk(ResidentContext& context, const PackIdentity& identity) {
  if (!store_ || !cloud_) return fail(ErrorKind::kNotFound, "no packs on disk");
  CELSLM_TRY(const PublicKey signer, cloud_->key());
  CELSLM_TRY(const StoredPack pack, store_->find(identity.id(), signer));
  const int per_layer = 2 * identity.n_chunks();
  for (int index = 0; index < identity.n_blocks(); ++index) {
    const BlockEntry& entry = pack.header.blocks[static_cast<std::size_t>(index)];
    // Layers filled before a block that was damaged on disk stay; the cloud or this box supplies the rest.
    if (const Status ok = import_block(*model_, identity, index, entry, pack.block(index), *context.segment); !ok) {
      store_->discard(identity.id(), ok.error());
      return ok;
    }
    if ((index + 1) % per_layer == 0) context.layer_filled(index / per_layer, {identity.provenance, Source::kDisk});
  }
  return {};
}

Status ContextLoader::cloud_is_usable() const {
  if (!cloud_) return fail(ErrorKind::kUnavailable, "no cloud is configured (--cloud URL)");
  if (clock_.now().time_since_epoch().count() < rest_until_.load()) {
    return fail(ErrorKind::kUnavailable, "{} failed a moment ago and is left alone for now", cloud_->url());
  }
  return {};
}

Status ContextLoader::from_cloud(ResidentContext& context, const PackIdentity& identity, std::stop_token stop) {
  CELSLM_CHECK_OK(cloud_is_usable());
  PackFetch fetch{.model = *model_,
                  .cloud = *cloud_,
                  .store = store_.get(),
                  .context = context,
                  .n_connections = options_.n_connections,
                  .log = log_};
  const PackName name{.handle = context.handle, .model = identity.model.id(), .codec = options_.codec};
  Status status = fetch.run(name, identity, stop);
  if (status) return {};
  if (status.error().kind == ErrorKind::kUnavailable) {
    rest_until_.store((clock_.now() + options_.cloud_rest).time_since_epoch().count());
  }
  return std::unexpected(explain(std::move(status).error(), identity));
}

// A cloud that does not know our model: say in which field its closest one differs.
Error ContextLoader::explain(Error error, const PackIdentity& identity) {
  if (error.kind != ErrorKind::kNotFound) return error;
  const auto models = cloud_->models();
  if (!models) return error;
  for (const HostedModel& hosted : *models) {
    if (hosted.fingerprint == identity.model) return error;
  }
  for (const HostedModel& hosted : *models) {
    error.message +=
        std::format("; its model '{}' differs from ours in {}", hosted.name, identity.model.difference(hosted.fingerprint));
  }
  return error;
}

}  // namespace celslm
