// An edge in its fleet: what it tells the others, and which of them it fetches packs from.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/log.h"
#include "core/lru.h"
#include "core/mutex.h"
#include "core/result.h"
#include "fleet/directory/member.h"
#include "serve/fleet/fleet_parts.h"
#include "serve/load/context_loader.h"
#include "serve/wire/cloud_client.h"

namespace celslm {

// A client of a node that the directory names. The address is somebody else's word: no token may be sent there that was
// meant for another node.
using ConnectNode = std::function<Result<std::shared_ptr<CloudClient>>(const NodeRecord& node)>;

struct EdgeFleetParts {
  std::shared_ptr<CloudClient> cloud;
  std::vector<std::string> known_urls;  // of cloud and peers, which are sources already
  Hash256 model;
  ConnectNode connect;
  // What the edge tells of itself. Called by the member's thread, between start() and stop().
  std::function<NodeRecord()> describe;
  std::function<std::vector<HeldPack>()> held;
};

// Thread-safe. No function waits for the directory but stop(), for what is under way.
class EdgeFleet {
 public:
  // Of the nodes that hold a context, so many become sources of a load, and a cloud beside them where the edge's own is
  // gone.
  static constexpr std::size_t kMaxSources = 2;

  EdgeFleet(FleetParts fleet, EdgeFleetParts parts, const Clock& clock, Log log);

  // Begins to take part; url: where the edge listens.
  void start(const std::string& url) CELSLM_EXCLUDES(mutex_);
  // Leaves the fleet. Before what the parts' functions use goes.
  void stop() { member_->stop(); }

  // Other nodes to fetch this context from, the less busy ones of those that hold it more likely. cloud_is_gone: whether the
  // edge's own cloud does not answer; then any other one that has the model is asked, too.
  std::vector<FurtherSource> sources(const ContextHandle& context, bool cloud_is_gone) CELSLM_EXCLUDES(mutex_);

  // Contexts that other edges hold for this model, those that most of them hold first. Nothing: not known yet, since the
  // directory has neither been read nor failed to answer.
  std::optional<std::vector<ContextHandle>> popular() const;

  const Member& member() const { return *member_; }

 private:
  std::optional<FleetSelf> describe() CELSLM_EXCLUDES(mutex_);
  std::vector<NodeRecord> candidates(const std::function<bool(const FleetNode&)>& wanted) const;
  std::shared_ptr<CloudClient> client_of(const NodeRecord& node) CELSLM_EXCLUDES(mutex_);

  const EdgeFleetParts parts_;
  const Log log_;
  Mutex mutex_;
  std::string url_ CELSLM_GUARDED_BY(mutex_);  // empty: where it will listen is not known yet
  Lru<std::string, std::shared_ptr<CloudClient>> clients_ CELSLM_GUARDED_BY(mutex_);  // by role and url
  std::unique_ptr<Member> member_;                                                    // last: its thread uses the rest
};

}  // namespace celslm
