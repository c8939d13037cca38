#include "serve/context_loader.h"

#include "serve/disk_source.h"
#include "serve/remote_source.h"

namespace celslm {

PackIdentity pack_identity(const Model& model, const ResidentContext& context, CodecId codec) {
  return {.context = context.id,
          .tokens = context.tokens,
          .model = model.fingerprint(),
          .provenance = Provenance::kProxy,
          .codec = codec};
}

ContextLoader::ContextLoader(std::shared_ptr<const Model> model, std::shared_ptr<CloudClient> cloud,
                             std::vector<std::shared_ptr<CloudClient>> neighbours, std::shared_ptr<PackStore> store,
                             const Clock& clock, const LoaderOptions& options, Log log)
    : parts_{.model = std::move(model),
             .store = std::move(store),
             .memory = std::make_shared<SourceMemory>(),
             .clock = &clock,
             .log = std::move(log)},
      cloud_(std::move(cloud)),
      neighbours_(std::move(neighbours)),
      options_(options) {
  parts_.memory->computed(options.compute_s_per_work);
}

ContextLoader::~ContextLoader() {
  const std::scoped_lock lock(mutex_);
  for (Job& job : jobs_) job.thread.request_stop();
  jobs_.clear();
}

void ContextLoader::load(std::shared_ptr<ResidentContext> context) {
  context->set_codec(options_.codec);
  const auto codec = find_codec(options_.codec);
  if (!codec) return context->set_note(codec.error().message);  // cannot be: the edge has looked it up before
  const PackIdentity identity = pack_identity(*parts_.model, *context, (*codec)->id());
  const PlanOptions options{.prefer = options_.prefer, .max_compute_layers = options_.max_compute_layers};
  auto load = std::make_shared<ContextLoad>(parts_, *context, identity, options);
  // Known before anyone asks whether to compute.
  const bool on_disk = add_disk(*load, identity);
  if (!on_disk) add_network(*load, *context, identity);
  context->set_compute_work(load);

  const std::scoped_lock lock(mutex_);
  jobs_.remove_if([](const Job& job) { return job.done.load(); });
  Job& job = jobs_.emplace_back();
  job.thread = std::jthread([this, &job, context, load, identity, on_disk](std::stop_token stop) {
    const auto more = [&] {
      if (on_disk) add_network(*load, *context, identity);
    };
    load->run(more, stop);
    count_bytes(*context);
    job.done.store(true);
  });
}

bool ContextLoader::add_disk(ContextLoad& load, const PackIdentity& identity) {
  if (!parts_.store || !cloud_) return false;
  const auto signer = cloud_->known_key();
  if (!signer) return false;
  auto pack = parts_.store->find(identity.id(), *signer);
  if (!pack) return false;
  load.add_source(std::make_unique<DiskSource>(*std::move(pack)));
  return true;
}

void ContextLoader::add_network(ContextLoad& load, const ResidentContext& context, const PackIdentity& identity) {
  if (!cloud_) return load.note("no cloud is configured (--cloud URL)");
  const PackName name{.handle = context.handle, .model = identity.model.id(), .codec = options_.codec};
  const std::uint64_t max_bytes = bytes_left();
  const auto add = [&](const std::shared_ptr<CloudClient>& client, bool is_neighbour) {
    if (parts_.memory->rests(client->url(), parts_.clock->now()))
      return load.note(std::format("{} failed a moment ago and is left alone for now", client->url()));
    const RemoteOptions remote{
        .is_neighbour = is_neighbour, .n_connections = options_.n_connections, .max_bytes = max_bytes};
    load.add_source(std::make_unique<RemoteSource>(client, name, identity, remote));
  };
  if (max_bytes == 0) return load.note("this hour's bytes are used up (--max-bytes-per-hour)");
  for (const auto& neighbour : neighbours_) add(neighbour, true);
  add(cloud_, false);
}

std::uint64_t ContextLoader::bytes_left() {
  const std::scoped_lock lock(hour_mutex_);
  const TimePoint now = parts_.clock->now();
  if (hour_began_ == TimePoint{} || now - hour_began_ >= std::chrono::hours(1)) {
    hour_began_ = now;
    hour_bytes_ = 0;
  }
  return options_.max_bytes_per_hour - std::min(options_.max_bytes_per_hour, hour_bytes_);
}

void ContextLoader::count_bytes(const ResidentContext& context) {
  const std::scoped_lock lock(hour_mutex_);
  hour_bytes_ += context.report().bytes;
}

}  // namespace celslm
