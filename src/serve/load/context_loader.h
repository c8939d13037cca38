// Fills resident contexts from all the sources an edge has: its own disk, its neighbours, its cloud, and its own engine.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/log.h"
#include "core/mutex.h"
#include "core/spawn.h"
#include "kv/store/pack_store.h"
#include "model/engine/model.h"
#include "model/kv/kv_tuning.h"
#include "net/byte_budget.h"
#include "plan/load_policy.h"
#include "serve/context/resident_context.h"
#include "serve/load/codec_ladder.h"
#include "serve/load/guidance.h"
#include "serve/load/load_parts.h"
#include "serve/load/load_timer.h"
#include "serve/load/load_workers.h"
#include "serve/wire/cloud_client.h"

namespace celslm {

class ContextLoad;

// A node that may have a pack, beside the loader's own cloud and neighbours.
struct FurtherSource {
  std::shared_ptr<CloudClient> client;
  bool is_cloud = false;  // it computes what it does not have
};

struct LoaderOptions {
  CodecLadder codecs = CodecLadder::only(**find_codec(CodecId::kF16));  // of packs asked for
  int n_connections = 4;                                                // to each source, for one context
  LoadPolicy policy;
  std::shared_ptr<const ByteBudget> budget;  // that the clients' calls are paid from; null: no limit
  std::shared_ptr<MemoryLedger> memory;      // that rows which wait for the disk are counted in; null: none
  // Whether other nodes may be asked for a context, which tells them its handle; empty: they may.
  std::function<bool(const ContextHandle&)> may_ask;
  // More nodes to ask for a context, at the beginning of its load; must not wait. Empty: there are none.
  std::function<std::vector<FurtherSource>(const ContextHandle&)> further_sources;
  // Whether the cloud computes this model's KV on a device, now; empty: it does not.
  std::function<bool()> cloud_on_device;
  // Layers of another class of arithmetic than this machine's, or of a device's, may come from a source in part and be
  // computed here in part. Otherwise nothing is computed while a source supplies them.
  bool mix_arithmetic = false;
  // kMapped: through the cloud's layer map where it has one. kStudied: see ResidentContext::study.
  Guidance guidance = Guidance::kNone;
  // kTuned needs it; with kStudied it is for contexts without studied KV. Null otherwise.
  std::shared_ptr<const KvTuning> tuning;
};

// The identity of the pack that a context's KV is asked for as. on_device: whether its maker computes on one.
PackIdentity pack_identity(const Model& model, const ResidentContext& context, CodecId codec, bool on_device);

// Thread-safe. All loads share a bounded number of threads, made when they are first needed; where there is none to be had,
// contexts are computed. The destructor ends all loads.
class ContextLoader {
 public:
  // cloud and store may be null: sources that do not exist. So may observer. The clock must outlive the loader, the observer
  // all contexts, too: what no source supplied is computed, and reported, after the loader has gone.
  ContextLoader(std::shared_ptr<const Model> model, std::shared_ptr<CloudClient> cloud,
                std::vector<std::shared_ptr<CloudClient>> neighbours, std::shared_ptr<PackStore> store, const Clock& clock,
                const LoaderOptions& options, Log log, LoadObserver* observer = nullptr, Spawn spawn = spawn_thread);
  ~ContextLoader();

  // Starts filling `context`, which nobody else fills. Returns at once. Where there is no memory to begin, the engine is
  // left to compute it; kOverloaded where there is not even memory for that, and nobody fills it.
  Status load(std::shared_ptr<ResidentContext> context) CELSLM_EXCLUDES(mutex_);
  // The same with this codec. `ended` is called when no source supplies any more, whether the context is complete or not,
  // but not when the loader is destroyed before that.
  Status load(std::shared_ptr<ResidentContext> context, const CodecChoice& choice, std::function<void()> ended)
      CELSLM_EXCLUDES(mutex_);
  // This machine's speed, see measure_layer_speed(): the estimate until loads have measured it.
  void assume_compute_speed(double s_per_work);
  // What the cloud offers for this model, from now on; used with Guidance::kMapped.
  void offer_map(std::optional<HostedMap> map) CELSLM_EXCLUDES(mutex_);
  // Whether the cloud offers KV with options.tuning, from now on. Until it is known the cloud is asked.
  void offer_tuning(bool offered) CELSLM_EXCLUDES(mutex_);
  // Whether anything is being loaded or kept on disk.
  bool busy() const CELSLM_EXCLUDES(mutex_);
  // Returns once nothing is. What no source supplies is not waited for: the engine computes it when somebody needs it.
  void wait_until_idle() const CELSLM_EXCLUDES(mutex_);
  // As measured; 0: not yet. Seconds that a layer takes for a unit of layer_work(); the link to the cloud.
  double compute_s_per_work() const { return parts_.memory->compute_s_per_work(); }
  double link_bytes_per_s() const;
  std::size_t threads() const { return workers_.threads(); }  // beside the timer's

 private:
  // What is to be loaded, and its pack if it is on disk.
  struct PackChoice {
    CodecChoice codec;
    PackIdentity identity;
    std::optional<StoredPack> stored;
  };
  // Of the pack to ask for now.
  PackIdentity identity_of(const ResidentContext& context, CodecId codec) const CELSLM_EXCLUDES(mutex_);
  PackChoice choose(const ResidentContext& context) const CELSLM_EXCLUDES(mutex_);
  void begin(std::shared_ptr<ResidentContext> context, PackChoice choice, std::function<void()> ended)
      CELSLM_EXCLUDES(mutex_);
  std::optional<StoredPack> on_disk(const PackIdentity& identity) const;
  void add_network(ContextLoad& load, const ResidentContext& context, const PackIdentity& identity) CELSLM_EXCLUDES(mutex_);
  bool may_accept(const PackIdentity& identity) const;
  bool cloud_lacks_tuning() const CELSLM_EXCLUDES(mutex_);
  void end(const ContextLoad& load, const std::function<void()>& ended) CELSLM_EXCLUDES(mutex_);

  const LoadParts parts_;
  const std::shared_ptr<CloudClient> cloud_;
  const std::vector<std::shared_ptr<CloudClient>> neighbours_;
  const LoaderOptions options_;
  mutable Mutex mutex_;
  mutable ConditionVariable done_;
  std::map<const ContextLoad*, std::shared_ptr<ContextLoad>> loads_ CELSLM_GUARDED_BY(mutex_);  // under way
  std::optional<HostedMap> map_ CELSLM_GUARDED_BY(mutex_);
  std::optional<bool> tuning_offered_ CELSLM_GUARDED_BY(mutex_);  // null: not known
  LoadTimer timer_;                                               // ends before what its calls use
  LoadWorkers workers_;                                           // the same
};

}  // namespace celslm
