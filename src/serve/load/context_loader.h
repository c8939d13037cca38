// Fills resident contexts from all the sources an edge has: its own disk, its neighbours, its cloud, and its own engine.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "core/log.h"
#include "kv/store/pack_store.h"
#include "model/engine/model.h"
#include "plan/load_plan.h"
#include "serve/context/resident_context.h"
#include "serve/load/codec_ladder.h"
#include "serve/load/context_load.h"
#include "serve/wire/cloud_client.h"

namespace celslm {

struct LoaderOptions {
  CodecLadder codecs = CodecLadder::only(**find_codec(CodecId::kF16));  // of packs asked for
  int n_connections = 4;                                                // to each source, for one context
  LoadPolicy policy;
  std::uint64_t max_bytes_per_hour = UINT64_MAX;  // over the network, for all contexts together
  // Contexts as a larger model reads them, through the cloud's layer map where it has one, rather than as this edge's model.
  bool mapped = false;
};

// The identity of the pack that a context's KV is asked for as.
PackIdentity pack_identity(const Model& model, const ResidentContext& context, CodecId codec);

// Thread-safe. Each context that loads has threads of its own; the destructor stops and joins them.
class ContextLoader {
 public:
  // cloud and store may be null: sources that do not exist. The clock must outlive the loader.
  ContextLoader(std::shared_ptr<const Model> model, std::shared_ptr<CloudClient> cloud,
                std::vector<std::shared_ptr<CloudClient>> neighbours, std::shared_ptr<PackStore> store, const Clock& clock,
                const LoaderOptions& options, Log log);
  ~ContextLoader();

  // Starts filling `context`, which nobody else fills. Returns at once.
  void load(std::shared_ptr<ResidentContext> context);
  // The same with this codec. `ended` is called when no source gives any more, whether the context is complete or not, but
  // not when the loader is destroyed before that.
  void load(std::shared_ptr<ResidentContext> context, const CodecChoice& choice, std::function<void()> ended);
  // This machine's speed, see measure_layer_speed(): the estimate until loads have measured it.
  void assume_compute_speed(double s_per_work);
  // What the cloud offers for this model, from now on; used where options.mapped is set.
  void offer_map(std::optional<HostedMap> map);
  // Whether anything is being loaded.
  bool busy() const;

 private:
  struct Job {
    std::atomic<bool> done{false};
    std::jthread thread;
  };
  // Of the pack to ask for now.
  PackIdentity identity_of(const ResidentContext& context, CodecId codec) const;
  // What is to be loaded, and its pack if it is on disk.
  struct Wish {
    CodecChoice choice;
    PackIdentity identity;
    std::optional<StoredPack> stored;
  };
  Wish choose(const ResidentContext& context) const;
  void begin(std::shared_ptr<ResidentContext> context, Wish wish, std::function<void()> ended);
  std::optional<StoredPack> on_disk(const PackIdentity& identity) const;
  void add_network(ContextLoad& load, const ResidentContext& context, const PackIdentity& identity);
  std::uint64_t bytes_left();
  void count_bytes(const ResidentContext& context);

  const LoadParts parts_;
  const std::shared_ptr<CloudClient> cloud_;
  const std::vector<std::shared_ptr<CloudClient>> neighbours_;
  const LoaderOptions options_;
  mutable std::mutex mutex_;
  std::list<Job> jobs_;           // protected by mutex_; finished ones are joined at the next load()
  std::optional<HostedMap> map_;  // protected by mutex_
  std::mutex hour_mutex_;
  TimePoint hour_began_{};        // protected by hour_mutex_
  std::uint64_t hour_bytes_ = 0;  // protected by hour_mutex_
};

}  // namespace celslm
