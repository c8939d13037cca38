#include "serve/cloud/cloud_fleet.h"

#include <algorithm>
#include <random>
#include <set>

namespace celslm {
namespace {

constexpr std::size_t kMaxContextsKnown = 1'000;  // whose packs are looked for
constexpr std::size_t kMaxHoldersAsked = 2;       // for one pack, before it is computed
constexpr std::size_t kMaxClients = 16;
constexpr std::size_t kMaxLearnedAtOnce = 4;  // contexts tokenized at one beat: a long one takes a second

}  // namespace

CloudFleet::CloudFleet(FleetParts fleet, CloudFleetParts parts, const Clock& clock, const Log& log)
    : parts_(parts),
      shared_(parts.contexts, parts.key, log),
      url_(fleet.url),
      member_(std::make_unique<Member>(
          std::move(fleet.store), [this] { return describe(); }, clock, log, fleet.member,
          [this](Store& store, const FleetKeys& keys) { return shared_.exchange(store, keys); })) {
  const FleetKeys keys(fleet_name(parts_.key.public_key().hex()));
  if (fleet.tier_bytes > 0)
    tier_ = std::make_unique<PackTier>(PackTierParts{.store = std::move(fleet.tier),
                                                     .reading = std::move(fleet.tier_reading),
                                                     .keys = keys,
                                                     .limit_bytes = fleet.tier_bytes,
                                                     .beat = fleet.member.beat,
                                                     .key = parts_.key},
                                       clock, log);
  if (fleet.work)
    work_ = std::make_unique<SharedWork>(std::move(fleet.work),
                                         SharedWorkParts{.catalog = parts_.catalog,
                                                         .jobs = parts_.jobs,
                                                         .codecs = parts_.codecs,
                                                         .keys = keys,
                                                         .beat = fleet.member.beat},
                                         clock, log);
}

void CloudFleet::stop() {
  if (work_) work_->stop();
  if (tier_) tier_->stop();
  member_->stop();
}

void CloudFleet::offer(const PackIdentity& identity) {
  const auto codec = find_codec(identity.codec);
  const auto name = name_of(identity);
  if (work_ && name && codec) work_->offer({.pack = *name, .codec = std::string((*codec)->name())});
}

void CloudFleet::start(const std::string& url) {
  {
    const MutexLock lock(mutex_);
    if (url_.empty()) url_ = url;
  }
  member_->start();
  if (work_) work_->start();
  if (tier_) tier_->start();
}

std::optional<FleetSelf> CloudFleet::describe() {
  FleetSelf out{.fleet = fleet_name(parts_.key.public_key().hex()), .record = {.role = NodeRole::kCloud}, .held = held()};
  for (const auto& model : parts_.catalog.models()) {
    const Hash256 id = model->model().fingerprint.id();
    if (out.record.models.size() < kMaxRecordModels && !std::ranges::contains(out.record.models, id))
      out.record.models.push_back(id);
  }
  out.record.places = static_cast<int>(parts_.catalog.models().size());
  for (const PackJobs::Listed& job : parts_.jobs.list()) ++(job.waiting ? out.record.queued : out.record.running);
  out.record.prefill_tokens_per_s = parts_.metrics.prefill_tokens_per_s();
  const MutexLock lock(mutex_);
  out.record.url = url_;
  return out;
}

void CloudFleet::learn_packs() {
  std::size_t learned = 0;
  for (const ContextInfo& info : parts_.contexts.list()) {
    if (packs_.contains(info.handle)) continue;
    if (++learned > kMaxLearnedAtOnce || packs_.size() >= kMaxContextsKnown) return;
    std::vector<KnownPack>& packs = packs_[info.handle];
    for (const auto& model : parts_.catalog.models()) {
      if (!made_with(model->model()).none()) continue;
      auto identity = parts_.catalog.identity(info.handle, *model, CodecId::kF16);
      for (const CodecId codec : identity ? parts_.codecs : std::vector<CodecId>()) {
        identity->codec = codec;
        packs.push_back({.pack_id = identity->id(), .model = identity->model.id()});
      }
    }
  }
}

std::vector<HeldPack> CloudFleet::held() {
  learn_packs();
  std::erase_if(packs_, [&](const auto& known) { return !parts_.contexts.contains(known.first); });
  std::set<Hash256> stored;
  for (const PackStore::Listing& pack : parts_.storage.list()) stored.insert(pack.pack_id);
  std::vector<HeldPack> out;
  for (const auto& [handle, packs] : packs_) {
    for (const KnownPack& pack : packs) {
      const HeldPack held{.context = handle, .model = pack.model};
      if (stored.contains(pack.pack_id) && !std::ranges::contains(out, held)) out.push_back(held);
    }
    if (out.size() >= kMaxHeldPacks) break;
  }
  return out;
}

// How others announce a pack of the model's own KV.
std::optional<HeldPack> CloudFleet::name_of(const PackIdentity& identity) const {
  const auto handle = parts_.catalog.handle_of(identity.context);
  if (!handle || !made_with(identity).none()) return std::nullopt;
  return HeldPack{.context = *handle, .model = identity.model.id()};
}

std::vector<std::string> CloudFleet::holders(const HeldPack& wanted) const {
  std::vector<std::string> out;
  for (const FleetNode& node : member_->view()->nodes) {
    if (node.record.role == NodeRole::kCloud && holds(*node.held, wanted)) out.push_back(node.record.url);
  }
  std::minstd_rand chance{std::random_device()()};
  std::ranges::shuffle(out, chance);
  out.resize(std::min(out.size(), kMaxHoldersAsked));
  return out;
}

std::shared_ptr<CloudClient> CloudFleet::client_of(const std::string& url) {
  const MutexLock lock(mutex_);
  if (url == url_) return nullptr;  // a record that points to this cloud itself
  if (const auto* known = clients_.find(url)) return *known;
  auto client = parts_.connect(url);
  if (!client) return nullptr;
  clients_.put(url, *client);
  if (clients_.size() > kMaxClients) clients_.evict();
  return *std::move(client);
}

void CloudFleet::keep(const StoredPack& pack) {
  if (tier_) tier_->keep(pack);
}

Result<StoredPack> CloudFleet::fetch(PackJob& job, std::stop_token stop) {
  auto out = fetch_from_cloud(job, stop);
  if (out || !tier_ || stop.stop_requested()) return out;
  return tier_->fetch(job, parts_.packs, stop);
}

Result<StoredPack> CloudFleet::fetch_from_cloud(PackJob& job, std::stop_token stop) {
  const auto wanted = name_of(job.identity);
  Result<StoredPack> out = fail(ErrorKind::kNotFound, "no other cloud has this pack");
  if (!wanted || !parts_.connect) return out;
  CELSLM_TRY(const Codec* codec, find_codec(job.identity.codec));
  const PackName name{.handle = wanted->context, .model = wanted->model, .codec = std::string(codec->name())};
  for (const std::string& url : holders(*wanted)) {
    const auto client = client_of(url);
    if (!client || stop.stop_requested()) continue;
    out = fetch_pack(job, *client, name, parts_.packs, parts_.key, stop);
    if (out) return out;
  }
  return out;
}

}  // namespace celslm
