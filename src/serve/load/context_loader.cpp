#include "serve/load/context_loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>

#include "plan/layer_work.h"
#include "serve/load/compute_alone.h"
#include "serve/load/context_load.h"
#include "serve/load/disk_source.h"
#include "serve/load/remote_source.h"

namespace celslm {

PackIdentity pack_identity(const Model& model, const ResidentContext& context, CodecId codec, bool on_device) {
  PackIdentity out{.context = context.id,
                   .tokens = context.tokens,
                   .model = model.fingerprint(),
                   .provenance = Provenance::kProxy,
                   .codec = codec,
                   .of_tenant = !context.tenant.empty()};
  out.model.arithmetic = on_device ? Arithmetic::kDevice : model.cpu_arithmetic();
  return out;
}

namespace {

// One load alone may use all of its connections.
LoadWorkers::Limits limits_for(const LoaderOptions& options, std::size_t n_sources) {
  LoadWorkers::Limits out = LoadWorkers::kDefaultLimits;
  int& reads = out[static_cast<std::size_t>(LoadWork::kRead)];
  reads = std::max(reads, options.n_connections * static_cast<int>(n_sources));
  return out;
}

template <typename Work>
Status within_memory(Work work) {
  try {
    work();
    return {};
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kOverloaded, "there is no memory to begin loading this context");
  }
}

}  // namespace

ContextLoader::ContextLoader(std::shared_ptr<const Model> model, std::shared_ptr<CloudClient> cloud,
                             std::vector<std::shared_ptr<CloudClient>> neighbours, std::shared_ptr<PackStore> store,
                             const Clock& clock, const LoaderOptions& options, Log log, LoadObserver* observer, Spawn spawn)
    : parts_{.model = std::move(model),
             .store = std::move(store),
             .disk = std::make_shared<DiskThread>(DiskThread::kMaxBytes, options.memory),
             .memory = std::make_shared<SourceMemory>(),
             .tuning = options.tuning,
             .mix_arithmetic = options.mix_arithmetic,
             .clock = &clock,
             .observer = observer,
             .log = std::move(log)},
      cloud_(std::move(cloud)),
      neighbours_(std::move(neighbours)),
      options_(options),
      timer_(clock, spawn),
      workers_(limits_for(options, neighbours_.size() + 1), std::move(spawn), parts_.log) {}

ContextLoader::~ContextLoader() {
  std::vector<std::shared_ptr<ContextLoad>> loads;
  {
    const MutexLock lock(mutex_);
    for (const auto& [key, load] : loads_) loads.push_back(load);
  }
  for (const auto& load : loads) load->stop();
  loads.clear();
  wait_until_idle();
}

void ContextLoader::assume_compute_speed(double s_per_work) {
  parts_.memory->computed(s_per_work);
}

double ContextLoader::link_bytes_per_s() const {
  return cloud_ ? parts_.memory->link(cloud_->url()).rate_bytes_per_s.mean() : 0;
}

void ContextLoader::offer_map(std::optional<HostedMap> map) {
  const MutexLock lock(mutex_);
  map_ = map;
}

void ContextLoader::offer_tuning(bool offered) {
  const MutexLock lock(mutex_);
  if (tuning_offered_ == offered) return;
  tuning_offered_ = offered;
  if (!offered)
    parts_.log->warn("the cloud does not have the tuning {} for this model: contexts are computed here, with it",
                     options_.tuning->id.hex());
}

bool ContextLoader::cloud_lacks_tuning() const {
  const MutexLock lock(mutex_);
  return options_.tuning && tuning_offered_ == false;
}

PackIdentity ContextLoader::identity_of(const ResidentContext& context, CodecId codec) const {
  const bool on_device = options_.cloud_on_device && options_.cloud_on_device();
  PackIdentity out = pack_identity(*parts_.model, context, codec, on_device);
  if (context.study) {
    set_study(out, *context.study);
    return out;
  }
  if (options_.tuning) set_tuning(out, options_.tuning->id);
  const MutexLock lock(mutex_);
  if (options_.guidance == Guidance::kMapped && map_) set_map(out, *map_);
  return out;
}

// The best of what is on disk, which costs nothing; otherwise the ladder's choice for the link to the cloud.
ContextLoader::PackChoice ContextLoader::choose(const ResidentContext& context) const {
  const bool may_compute = !context.study && may_mix(parts_, identity_of(context, CodecId::kF16));
  for (const CodecRung& rung : options_.codecs.rungs()) {
    PackIdentity identity = identity_of(context, rung.codec->id());
    if (auto stored = on_disk(identity))
      return {{rung.codec, "this pack is on disk"}, std::move(identity), std::move(stored)};
  }
  const ModelConfig& config = parts_.model->config();
  const int n_tokens = static_cast<int>(context.tokens.size());
  const std::uint64_t row = 2ULL * static_cast<std::uint64_t>(config.kv_width());
  CodecChoice choice =
      options_.codecs.choose({.n_layers = config.n_layers,
                              .values = row * static_cast<std::uint64_t>(context.study ? context.study->n_rows : n_tokens) *
                                        static_cast<std::uint64_t>(config.n_row_layers()),
                              .link = cloud_ ? parts_.memory->link(cloud_->url()) : LinkEstimate(),
                              .layer_s = parts_.memory->compute_s_per_work() * layer_work(n_tokens),
                              .max_compute_layers = !may_compute ? 0 : options_.policy.max_compute_layers(config.n_layers)});
  PackIdentity identity = identity_of(context, choice.codec->id());
  return {std::move(choice), std::move(identity), std::nullopt};
}

Status ContextLoader::load(std::shared_ptr<ResidentContext> context) {
  const Status begun = within_memory([&] { begin(context, choose(*context), {}); });
  if (begun) return {};
  return within_memory([&] {
    context->set_note(begun.error().message);
    context->set_compute_work(std::make_shared<ComputeAlone>(*context, parts_.tuning));
  });
}

Status ContextLoader::load(std::shared_ptr<ResidentContext> context, const CodecChoice& choice,
                           std::function<void()> ended) {
  return within_memory([&] {
    PackIdentity identity = identity_of(*context, choice.codec->id());
    auto stored = on_disk(identity);
    begin(std::move(context), {choice, std::move(identity), std::move(stored)}, std::move(ended));
  });
}

void ContextLoader::begin(std::shared_ptr<ResidentContext> context, PackChoice choice, std::function<void()> ended) {
  context->set_codec(std::string(choice.codec.codec->name()), choice.codec.reason);
  const PackIdentity& identity = choice.identity;
  PlanOptions options{.policy = options_.policy};
  // From the split on, mapped KV is meant to replace the model's own, which is computed only where no source supplies it.
  if (identity.map != Hash256{}) options.max_compute_layers = identity.split;
  if (identity.studied()) options.max_compute_layers = 0;
  if (!may_mix(parts_, identity)) options.max_compute_layers = 0;
  auto load = std::make_shared<ContextLoad>(parts_, workers_, timer_, *context, identity, options);
  // Sources are known before the engine asks whether to compute.
  const bool is_on_disk = choice.stored.has_value();
  if (choice.stored) {
    load->add_source(std::make_unique<DiskSource>(*std::move(choice.stored), parts_.store));
  } else {
    if (parts_.store) {
      if (auto part = parts_.store->part(identity)) load->set_leftover(*std::move(part));
    }
    add_network(*load, *context, identity);
  }
  ContextLoad& begun = *load;
  const auto more = [this, &begun, context, identity, is_on_disk] {
    if (is_on_disk) add_network(begun, *context, identity);
  };
  {
    const MutexLock lock(mutex_);
    loads_[load.get()] = load;
  }
  context->set_compute_work(load);
  load->start(context, more, [this, &begun, ended = std::move(ended)] { end(begun, ended); });
}

void ContextLoader::end(const ContextLoad& load, const std::function<void()>& ended) {
  if (ended && !load.stopped()) ended();
  const MutexLock lock(mutex_);
  loads_.erase(&load);
  done_.notify_all();  // with the lock: whoever waits may destroy this
}

bool ContextLoader::busy() const {
  const MutexLock lock(mutex_);
  return !loads_.empty();
}

void ContextLoader::wait_until_idle() const {
  {
    const MutexLock lock(mutex_);
    done_.wait(mutex_, [&]() CELSLM_REQUIRES(mutex_) { return loads_.empty(); });
  }
  parts_.disk->wait_until_idle();
}

std::optional<StoredPack> ContextLoader::on_disk(const PackIdentity& identity) const {
  if (!parts_.store || !cloud_ || !may_accept(identity)) return std::nullopt;
  const auto signer = cloud_->known_key();
  if (!signer) return std::nullopt;
  auto pack = parts_.store->find(identity.id(), *signer);
  // What an earlier version of this program kept is good where it holds the same bits.
  if (!pack && is_as_version_1(identity, parts_.model->config().key_bias))
    pack = parts_.store->find(version_1(identity).id(), *signer);
  if (!pack) return std::nullopt;
  return *std::move(pack);
}

// libllama's reader of states is not made for hostile bytes: a key that was taken on trust is not enough.
bool ContextLoader::may_accept(const PackIdentity& identity) const {
  return !identity.opaque() || cloud_->key_is_pinned();
}

void ContextLoader::add_network(ContextLoad& load, const ResidentContext& context, const PackIdentity& identity) {
  if (!cloud_) return load.note("no cloud is configured (--cloud URL)");
  if (!may_accept(identity))
    return load.note("libllama would read the state, which only a cloud whose key is named may supply (--cloud-key)");
  if (options_.may_ask && !options_.may_ask(context.handle))
    return load.note("a text of this edge's own (--context): no other node is asked for it");
  const std::string codec(find_codec(identity.codec).value()->name());
  const PackName name{.handle = context.handle,
                      .model = identity.model.id(),
                      .codec = codec,
                      .made_with = made_with(identity),
                      .header_bytes = header_bytes(identity)};
  const bool mapped = identity.map != Hash256{};
  if (options_.guidance == Guidance::kStudied && !identity.studied())
    load.note("the cloud has no studied KV of this context for this model (--guidance studied)");
  if (options_.guidance == Guidance::kMapped && !mapped)
    load.note("the cloud has no map for this model: its own KV is used (--guidance mapped)");
  const auto add = [&](const std::shared_ptr<CloudClient>& client, bool is_neighbour) {
    if (parts_.memory->backs_off(client->url(), parts_.clock->now()))
      return load.note(fmt::format("{} failed a moment ago and is not asked again yet", client->url()));
    const RemoteOptions remote{
        .is_neighbour = is_neighbour, .key_bias = parts_.model->config().key_bias, .n_connections = options_.n_connections};
    load.add_source(std::make_unique<RemoteSource>(client, name, identity, remote));
  };
  if (options_.budget && options_.budget->available() == 0)
    return load.note("this hour's bytes are used up (--max-bytes-per-hour)");
  if (!mapped && !identity.studied()) {  // neighbours offer neither
    for (const auto& neighbour : neighbours_) add(neighbour, true);
    const auto further = options_.further_sources ? options_.further_sources(context.handle) : std::vector<FurtherSource>();
    for (const FurtherSource& source : further) add(source.client, !source.is_cloud);
  }
  if (identity.tuning != Hash256{} && cloud_lacks_tuning())
    return load.note("the cloud does not have this edge's tuning: it is applied here (--tuning)");
  add(cloud_, false);
}

}  // namespace celslm
