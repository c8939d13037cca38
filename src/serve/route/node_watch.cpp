#include "serve/route/node_watch.h"

#include <algorithm>
#include <utility>

#include "serve/wire/errors.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 2s;  // for one reading
constexpr auto kConnectPatience = 1s;

}  // namespace

NodeWatch::NodeWatch(std::vector<WatchedNode> nodes, const Hash256& model, const Clock& clock, WatchOptions options, Log log)
    : model_(model), clock_(clock), options_(options), log_(std::move(log)), stopped_(clock) {
  const MutexLock lock(mutex_);
  for (WatchedNode& node : nodes) {
    auto state = std::make_unique<State>();
    state->id = node.client->base_url();
    state->node = std::move(node);
    states_.push_back(std::move(state));
  }
}

NodeWatch::~NodeWatch() {
  for (std::jthread& thread : threads_) thread.request_stop();
}

void NodeWatch::start() {
  const MutexLock lock(mutex_);
  for (const auto& state : states_)
    threads_.emplace_back([this, at = state.get()](const std::stop_token& stop) { watch(*at, stop); });
}

void NodeWatch::read_all() {
  std::vector<State*> all;
  {
    const MutexLock lock(mutex_);
    for (const auto& state : states_) all.push_back(state.get());
  }
  for (State* state : all) read(*state, {});
}

void NodeWatch::watch(State& state, const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    read(state, stop);
    const MutexLock lock(mutex_);
    stopped_.wait_for(mutex_, stop, options_.interval, [] { return false; });
  }
}

// The node's client and id never change: they are read without the lock.
void NodeWatch::read(State& state, const std::stop_token& stop) {
  const TimePoint asked = clock_.now();
  const std::uint64_t begun = begun_at(state);
  const auto answer = state.node.client->call({.path = "/v1/node",
                                               .max_body_bytes = kMaxNodeBytes,
                                               .expected_body_bytes = 4U << 10,
                                               .timeout = kPatience,
                                               .connect_timeout = kConnectPatience,
                                               .stop = stop});
  const TimePoint now = clock_.now();
  Result<NodeFigures> figures = !answer                 ? std::unexpected(answer.error())
                                : answer->status == 200 ? node_figures_from(as_text(answer->body))
                                                        : std::unexpected(error_of_answer(answer->status, answer->body));
  if (figures && state.node.node == RouteClass::kNeighbour && figures->model != model_)
    figures = fail(ErrorKind::kMismatch, "it serves another model, '{}'", figures->model_name);
  if (stop.stop_requested()) return;
  std::vector<std::stop_source> lost;
  {
    const MutexLock lock(mutex_);
    report(state, figures);
    lost = count_missed(state, figures);
    state.read_at = now;
    state.counted = begun;
    if (figures) state.round_trip_s.add(seconds(now - asked));
    state.figures = figures ? std::optional(*std::move(figures)) : std::nullopt;
  }
  for (std::stop_source& request : lost) request.request_stop();
}

std::vector<std::stop_source> NodeWatch::count_missed(State& state, const Result<NodeFigures>& figures) {
  const bool missed = !figures && figures.error().kind == ErrorKind::kUnavailable;
  state.missed = missed ? state.missed + 1 : 0;
  return state.missed < kMissedReadings ? std::vector<std::stop_source>() : state.sent;
}

std::uint64_t NodeWatch::begun_at(const State& state) {
  const MutexLock lock(mutex_);
  return state.begun;
}

// To the log, when it changes.
void NodeWatch::report(State& state, const Result<NodeFigures>& figures) {
  const bool first = !state.reachable.has_value();
  if (state.reachable == figures.has_value()) return;
  state.reachable = figures.has_value();
  if (!figures) log_->warn("no requests are forwarded to {}: {}", state.id, figures.error().message);
  if (figures && !first) log_->info("requests can be forwarded to {} again", state.id);
}

std::vector<RouteNode> NodeWatch::nodes(const std::optional<ContextHandle>& context) {
  const TimePoint now = clock_.now();
  const MutexLock lock(mutex_);
  std::vector<RouteNode> out;
  for (const auto& state : states_) {
    if (!state->figures || now - state->read_at > options_.stale) continue;
    RouteCandidate candidate = candidate_of(*state->figures, state->id, state->node.node);
    candidate.holds_context = !context || std::ranges::contains(state->figures->held, *context);
    candidate.round_trip_s = state->round_trip_s.mean();
    candidate.queued += static_cast<int>(std::min<std::uint64_t>(state->begun - state->counted, state->sent.size()));
    out.push_back({std::move(candidate), state->node.client});
  }
  return out;
}

NodeWatch::State* NodeWatch::find(const std::string& id) {
  const auto it = std::ranges::find(states_, id, [](const auto& state) { return state->id; });
  return it == states_.end() ? nullptr : it->get();
}

void NodeWatch::began(const std::string& id, std::stop_source lost) {
  const MutexLock lock(mutex_);
  State* state = find(id);
  if (state == nullptr) return;
  state->sent.push_back(std::move(lost));
  ++state->begun;
}

void NodeWatch::ended(const std::string& id, const std::stop_source& lost, bool failed) {
  const MutexLock lock(mutex_);
  State* state = find(id);
  if (state == nullptr) return;
  std::erase(state->sent, lost);
  if (failed) state->figures.reset();
}

}  // namespace celslm
