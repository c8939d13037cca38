// Nodes that an edge was given by their addresses: their figures, read again and again off the requests' path.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "core/log.h"
#include "core/mutex.h"
#include "core/timed_condition.h"
#include "plan/estimate.h"
#include "serve/route/node_figures.h"
#include "serve/route/node_source.h"

namespace celslm {

inline constexpr std::size_t kMaxWatchedNodes = 32;  // each has a thread of its own
// Readings in a row without an answer, after which requests that wait for the node are answered elsewhere. One alone may be
// a packet that was lost, and whoever is given up for it pays twice.
inline constexpr int kMissedReadings = 2;

struct WatchedNode {
  std::shared_ptr<HttpClient> client;
  RouteClass node = RouteClass::kNeighbour;
};

struct WatchOptions {
  std::chrono::milliseconds interval{1'000};  // between two readings of a node
  std::chrono::milliseconds stale{5'000};     // after that long without one a node is not counted on
};

// What is sent is the same whatever requests there are: GET /v1/node at fixed intervals. Thread-safe; the clock must outlive
// it. A node is known by its URL.
class NodeWatch final : public NodeSource {
 public:
  // model: the id of this edge's own: neighbours with another one are left out, and the log has a line about it.
  NodeWatch(std::vector<WatchedNode> nodes, const Hash256& model, const Clock& clock, WatchOptions options, Log log);
  ~NodeWatch() override;
  NodeWatch(const NodeWatch&) = delete;
  NodeWatch& operator=(const NodeWatch&) = delete;

  // Reads all nodes from now on, each on a thread.
  void start();
  // Reads each node once, one after the other.
  void read_all();

  std::vector<RouteNode> nodes(const std::optional<ContextHandle>& context) override CELSLM_EXCLUDES(mutex_);
  void began(const std::string& id, std::stop_source lost) override CELSLM_EXCLUDES(mutex_);
  void ended(const std::string& id, const std::stop_source& lost, bool failed) override CELSLM_EXCLUDES(mutex_);

 private:
  struct State {
    WatchedNode node;
    std::string id;
    std::optional<NodeFigures> figures;  // absent: not in touch
    TimePoint read_at{};
    Ewma round_trip_s;
    int missed = 0;                      // readings without an answer, one after the other
    std::vector<std::stop_source> sent;  // requests of this edge that are under way there: what tells them that it is lost
    std::uint64_t begun = 0;             // requests of this edge that were ever sent there
    std::uint64_t counted = 0;           // of these, as many as had been sent when the figures were asked for
    std::optional<bool> reachable;       // what the log knows
  };
  void watch(State& state, const std::stop_token& stop) CELSLM_EXCLUDES(mutex_);
  void read(State& state, const std::stop_token& stop) CELSLM_EXCLUDES(mutex_);
  std::uint64_t begun_at(const State& state) CELSLM_EXCLUDES(mutex_);
  void report(State& state, const Result<NodeFigures>& figures) CELSLM_REQUIRES(mutex_);
  // To be told that the node is lost: those under way there, if it is.
  std::vector<std::stop_source> count_missed(State& state, const Result<NodeFigures>& figures) CELSLM_REQUIRES(mutex_);
  State* find(const std::string& id) CELSLM_REQUIRES(mutex_);

  const Hash256 model_;
  const Clock& clock_;
  const WatchOptions options_;
  const Log log_;
  Mutex mutex_;
  TimedCondition stopped_;
  std::vector<std::unique_ptr<State>> states_ CELSLM_GUARDED_BY(mutex_);  // which there are never changes
  std::vector<std::jthread> threads_;
};

}  // namespace celslm
