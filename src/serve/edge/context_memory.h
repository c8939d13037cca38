// The contexts in an edge's memory, and the loads that bring them there.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/memory_ledger.h"
#include "core/mutex.h"
#include "core/result.h"
#include "model/engine/model.h"
#include "serve/context/context_table.h"
#include "serve/load/context_loader.h"

namespace celslm {

struct ContextLimits {
  std::uint64_t budget_bytes = 0;
  std::size_t most = SIZE_MAX;       // contexts
  std::uint64_t headroom_bytes = 0;  // of the ledger, that new contexts leave free: requests need some, too
  std::shared_ptr<MemoryLedger> memory;
};

// What contexts take is in the ledger's account "contexts". Thread-safe. Owns the loader, whose threads end with this.
class ContextMemory {
 public:
  // on_change: something of a context that is being loaded has changed; called from any thread. find_study: the study that
  // is to supply a context's KV; empty: none. What they use must outlive this.
  using FindStudy = std::function<std::optional<ContextStudy>(const ContextHandle&)>;
  ContextMemory(std::shared_ptr<const Model> model, std::unique_ptr<ContextLoader> loader, KvType type,
                const ContextLimits& limits, std::function<void()> on_change, FindStudy find_study = {});

  struct Acquired {
    std::shared_ptr<ResidentContext> context;
    bool was_complete = false;
    bool began_load = false;  // by this call
  };
  // The context of this text: in memory already, or new and from now on being loaded. Does not wait for it. kInvalid for a
  // text that is too long for the model; kOverloaded where its memory cannot be had, although kept prefixes and contexts
  // that nobody uses were given up for it. New ones are taken up one after the other.
  // tenant: whose it is; another tenant's context of the same text is another one.
  Result<Acquired> acquire(const std::string& text, const std::string& tenant = {}) CELSLM_EXCLUDES(creating_);
  // Whether acquire() of this text would fit into the budget without evicting anything. False for a text that it would
  // refuse.
  bool fits(const std::string& text, const std::string& tenant = {}) const;
  // Loads the context `known` again with another codec; `replaced` is called if it takes the place of `known` in the end.
  // Requests that have begun keep the KV they began with. False if the memory for it cannot be had.
  bool reload(const std::shared_ptr<ResidentContext>& known, const CodecChoice& choice, std::function<void()> replaced);

  // Drops contexts for which `known` is false. Requests that have begun keep them until they end.
  void drop_unless(const std::function<bool(const ContextHandle&)>& known) { table_.drop_unless(known); }
  bool loading() const { return loader_->busy(); }
  void offer_map(const std::optional<HostedMap>& map) { loader_->offer_map(map); }
  void offer_tuning(bool offered) { loader_->offer_tuning(offered); }
  const ContextTable& table() const { return table_; }
  const ContextLoader& loader() const { return *loader_; }

  // Returns once no context is being read from a source or kept on disk.
  void wait_until_loaded() const { loader_->wait_until_idle(); }

 private:
  Result<std::shared_ptr<ResidentContext>> create(const ContextHandle& handle, const std::string& text,
                                                  const std::string& tenant) const;
  Status take_memory(ResidentContext& context) const;
  std::optional<ContextStudy> study_of(const ContextHandle& handle, int n_tokens) const;

  const std::shared_ptr<const Model> model_;
  const KvType type_;
  const std::function<void()> on_change_;
  const FindStudy find_study_;
  const ContextLimits limits_;
  Mutex creating_;
  ContextTable table_;
  const std::unique_ptr<MemoryLedger::Registration> reclaimer_;  // uses the table
  const std::unique_ptr<ContextLoader> loader_;                  // destroyed first: its threads use the table
};

}  // namespace celslm
