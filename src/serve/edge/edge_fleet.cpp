#include "serve/edge/edge_fleet.h"

#include <algorithm>
#include <functional>
#include <map>
#include <random>

#include "core/printable.h"

namespace celslm {
namespace {

constexpr std::size_t kMaxClients = 32;  // with their kept connections

double busy(const NodeRecord& node) {
  return (node.running + node.queued) / std::max(1.0, static_cast<double>(node.places));
}

}  // namespace

EdgeFleet::EdgeFleet(FleetParts fleet, EdgeFleetParts parts, const Clock& clock, Log log)
    : parts_(std::move(parts)),
      log_(log),
      url_(fleet.url),
      member_(std::make_unique<Member>(
          std::move(fleet.store), [this] { return describe(); }, clock, std::move(log), fleet.member)) {}

void EdgeFleet::start(const std::string& url) {
  {
    const MutexLock lock(mutex_);
    if (url_.empty()) url_ = url;
  }
  member_->start();
}

// Until the cloud's key is known nothing that another node has could be checked.
std::optional<FleetSelf> EdgeFleet::describe() {
  const auto key = parts_.cloud->known_key();
  if (!key) return std::nullopt;
  FleetSelf out{.fleet = fleet_name(key->hex()), .record = parts_.describe(), .held = parts_.held()};
  const MutexLock lock(mutex_);
  out.record.url = url_;
  return out;
}

// In an order that favours those who have less to do: every second one beats its predecessor only if it is less busy.
std::vector<NodeRecord> EdgeFleet::candidates(const std::function<bool(const FleetNode&)>& wanted) const {
  std::vector<NodeRecord> out;
  for (const FleetNode& node : member_->view()->nodes) {
    if (!std::ranges::contains(parts_.known_urls, node.record.url) && wanted(node)) out.push_back(node.record);
  }
  std::minstd_rand chance{std::random_device()()};
  std::ranges::shuffle(out, chance);
  for (std::size_t i = 0; i + 1 < out.size(); i += 2) {
    if (busy(out[i + 1]) < busy(out[i])) std::swap(out[i], out[i + 1]);
  }
  return out;
}

std::vector<FurtherSource> EdgeFleet::sources(const ContextHandle& context, bool cloud_is_gone) {
  std::vector<FurtherSource> out;
  bool has_cloud = false;
  const auto add = [&](const std::vector<NodeRecord>& nodes, std::size_t most) {
    for (const NodeRecord& node : nodes) {
      if (out.size() >= most) return;
      auto client = client_of(node);
      if (!client) continue;
      has_cloud = has_cloud || node.role == NodeRole::kCloud;
      out.push_back({.client = std::move(client), .is_cloud = node.role == NodeRole::kCloud});
    }
  };
  const HeldPack wanted{.context = context, .model = parts_.model};
  add(candidates([&](const FleetNode& node) { return holds(*node.held, wanted); }), kMaxSources);
  if (!cloud_is_gone || has_cloud) return out;
  const auto is_able = [&](const FleetNode& node) {
    return node.record.role == NodeRole::kCloud && std::ranges::contains(node.record.models, parts_.model);
  };
  add(candidates(is_able), out.size() + 1);
  return out;
}

std::optional<std::vector<ContextHandle>> EdgeFleet::popular() const {
  if (const MemberState state = member_->state(); state.beats + state.failures == 0) return std::nullopt;
  std::map<ContextHandle, int> holders;
  for (const FleetNode& node : member_->view()->nodes) {
    if (node.record.role != NodeRole::kEdge) continue;
    for (const HeldPack& pack : *node.held) {
      if (pack.model == parts_.model) ++holders[pack.context];
    }
  }
  std::vector<ContextHandle> out;
  out.reserve(holders.size());
  for (const auto& [context, n] : holders) out.push_back(context);
  std::ranges::stable_sort(out, std::greater(), [&](const ContextHandle& context) { return holders.at(context); });
  return out;
}

std::shared_ptr<CloudClient> EdgeFleet::client_of(const NodeRecord& node) {
  const std::string name = std::string(to_string(node.role)) + " " + node.url;
  const MutexLock lock(mutex_);
  if (node.url == url_) return nullptr;  // a record that points to this edge itself
  if (const auto* known = clients_.find(name)) return *known;
  auto client = parts_.connect(node);
  if (!client) {
    log_->debug("the node '{}' is not used: {}", node.id, printable(client.error().message));
    return nullptr;
  }
  clients_.put(name, *client);
  if (clients_.size() > kMaxClients) clients_.evict();
  return *std::move(client);
}

}  // namespace celslm
