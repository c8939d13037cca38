#include "fleet/directory/member.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <utility>

#include "core/printable.h"

namespace celslm {
namespace {

constexpr Duration kMaxPause = std::chrono::seconds(30);       // between two tries while the store cannot be reached
constexpr Duration kSetTime = std::chrono::hours(1);           // of the set of ids, which each beat extends
constexpr std::size_t kMaxDiscarded = 64;                      // ids without a record, at one beat
constexpr std::size_t kMaxListsRead = 64;                      // of other nodes, at one beat
constexpr std::size_t kMaxRefusalsLogged = 100;                // a poisoned directory must not fill the log's disk either
constexpr std::size_t kMaxRenamedBytes = kMaxNodeIdBytes - 9;  // with "-" and 8 digits behind it

std::string random_digits(int words) {
  std::random_device random;
  std::string out;
  for (int i = 0; i < words; ++i) out += fmt::format("{:08x}", random());
  return out;
}

double random_between(double low, double high) {
  std::random_device random;
  return std::uniform_real_distribution(low, high)(random);
}

}  // namespace

Member::Member(std::unique_ptr<Store> store, Describe describe, const Clock& clock, Log log, const MemberOptions& options,
               Share share)
    : store_(std::move(store)),
      describe_(std::move(describe)),
      share_(std::move(share)),
      clock_(clock),
      log_(std::move(log)),
      options_(options),
      incarnation_(random_digits(4)),
      id_(options.id.empty() ? random_digits(2) : options.id),
      thread_(clock) {
  state_.id = id_;
}

Member::~Member() {
  stop();
}

void Member::stop() {
  if (thread_.stop()) leave();
}

void Member::start() {
  thread_.start([this](const std::stop_token&) { return pause_after(beat()); });
}

void Member::wake() {
  if (state().in_touch) thread_.wake();  // a store that is gone is not asked more often for that
}

// Spread by chance, so that a fleet does not come back to a server that starts again all at once.
Duration Member::pause_after(const Status& status) {
  failures_in_a_row_ = status ? 0 : std::min(failures_in_a_row_ + 1, 8);
  const Duration longest = std::max(kMaxPause, options_.beat);
  const Duration pause = std::min(longest, options_.beat * (1 << std::max(0, failures_in_a_row_ - 1)));
  return std::chrono::duration_cast<Duration>(pause * random_between(0.8, 1.0));
}

std::shared_ptr<const FleetView> Member::view() const {
  const MutexLock lock(mutex_);
  if (clock_.now() - view_->read_at > kKept) return std::make_shared<const FleetView>();
  return view_;
}

MemberState Member::state() const {
  const MutexLock lock(mutex_);
  return state_;
}

Status Member::beat() {
  const std::optional<FleetSelf> self = describe_();
  if (!self) return {};
  const Status status = exchange(*self);
  report(status);
  return status;
}

Status Member::exchange(const FleetSelf& self) {
  const FleetKeys keys(self.fleet);
  CELSLM_TRY(const bool is_ours, store_->hold(keys.lease(id_), incarnation_, lease_time()));
  if (is_ours) {
    taken_since_.reset();
    fleet_ = self.fleet;
    CELSLM_CHECK_OK(publish(keys, self));
  } else {
    id_is_taken();
  }
  CELSLM_TRY(auto records, read_records(keys));
  CELSLM_CHECK_OK(read_held(keys, records));
  show(std::move(records));
  return is_ours && share_ ? share_(*store_, keys) : Status();
}

// A lease of a process that was killed ends in time; one that is renewed is that of another node.
void Member::id_is_taken() {
  const TimePoint now = clock_.now();
  if (!taken_since_) {
    taken_since_ = now;
    log_->warn("another node of the fleet has the id '{}': this one takes no part until that lease has ended", id_);
    return;
  }
  if (now - *taken_since_ <= lease_time() + options_.beat) return;
  const std::string taken = std::exchange(id_, id_.substr(0, kMaxRenamedBytes) + "-" + random_digits(1));
  taken_since_.reset();
  log_->warn("two nodes were given the id '{}': this one is '{}' from now on", taken, id_);
  const MutexLock lock(mutex_);
  state_.id = id_;
  ++state_.renamed;
}

Status Member::publish(const FleetKeys& keys, const FleetSelf& self) {
  const std::string list = self.held.empty() ? "" : to_json_text(self.held);
  if (!list.empty()) CELSLM_CHECK_OK(publish_held(keys, list));
  published_list_ = list;
  NodeRecord record = self.record;
  record.id = id_;
  record.held = list.empty() ? "" : held_revision(list);
  CELSLM_CHECK_OK(store_->set(keys.node(id_), to_json_text(record), lease_time()));
  return store_->add(keys.nodes(), id_, kSetTime);
}

// Before the record that names it. A store that was emptied gets it again.
Status Member::publish_held(const FleetKeys& keys, const std::string& list) {
  if (list == published_list_) {
    CELSLM_TRY(const bool there, store_->extend(keys.held(id_), lease_time()));
    if (there) return {};
  }
  return store_->set(keys.held(id_), list, lease_time());
}

Result<std::vector<NodeRecord>> Member::read_records(const FleetKeys& keys) {
  CELSLM_TRY(auto ids, store_->sample(keys.nodes(), kMaxNodes));
  std::erase_if(ids, [&](const std::string& id) {
    if (!is_node_id(id)) refuse(printable(id, kMaxNodeIdBytes), {ErrorKind::kInvalid, "this is no node's id"});
    return id == id_ || !is_node_id(id);
  });
  CELSLM_TRY(const auto texts, store_->get_all(keys.node_keys(ids), kMaxRecordBytes));
  std::vector<NodeRecord> out;
  std::vector<std::string> gone;
  for (std::size_t i = 0; i < std::min(ids.size(), texts.size()); ++i) {
    if (!texts[i]) {
      if (gone.size() < kMaxDiscarded) gone.push_back(ids[i]);
      continue;
    }
    auto record = parse_node_record(*texts[i]);
    if (record && record->id != ids[i]) record = fail(ErrorKind::kInvalid, "the record is that of '{}'", record->id);
    if (record) {
      out.push_back(*std::move(record));
    } else {
      refuse(ids[i], record.error());
    }
  }
  CELSLM_CHECK_OK(store_->discard(keys.nodes(), gone));
  return out;
}

Status Member::read_held(const FleetKeys& keys, const std::vector<NodeRecord>& records) {
  std::set<std::string> there;
  std::vector<const NodeRecord*> wanted;
  std::vector<std::string> names;
  for (const NodeRecord& record : records) {
    there.insert(record.id);
    const auto known = lists_.find(record.id);
    const bool is_known = known != lists_.end() && known->second.revision == record.held;
    if (record.held.empty() || is_known || wanted.size() >= kMaxListsRead) continue;
    wanted.push_back(&record);
    names.push_back(keys.held(record.id));
  }
  std::erase_if(lists_, [&](const auto& list) { return !there.contains(list.first); });
  CELSLM_TRY(const auto texts, store_->get_all(names, kMaxHeldListBytes));
  for (std::size_t i = 0; i < std::min(wanted.size(), texts.size()); ++i) {
    // One of another revision was replaced between the two reads; the next beat has it.
    if (!texts[i] || held_revision(*texts[i]) != wanted[i]->held) continue;
    auto packs = parse_held_packs(*texts[i]);
    if (!packs) refuse(wanted[i]->id, packs.error());
    lists_[wanted[i]->id] = {.revision = wanted[i]->held,
                             .packs = std::make_shared<const HeldPacks>(std::move(packs).value_or(HeldPacks()))};
  }
  return {};
}

void Member::refuse(const std::string& id, const Error& why) {
  if (refused_.size() < kMaxRefusalsLogged && refused_.insert(id).second)
    log_->warn("the directory has something about a node '{}' that cannot be used: {}", id, printable(why.message));
  const MutexLock lock(mutex_);
  ++state_.refused;
}

void Member::show(std::vector<NodeRecord> records) {
  const auto none = std::make_shared<const HeldPacks>();
  auto view = std::make_shared<FleetView>();
  view->read_at = clock_.now();
  for (NodeRecord& record : records) {
    const auto list = lists_.find(record.id);
    const bool is_listed = !record.held.empty() && list != lists_.end();
    view->nodes.push_back({.record = std::move(record), .held = is_listed ? list->second.packs : none});
  }
  const MutexLock lock(mutex_);
  state_.nodes = view->nodes.size();
  view_ = std::move(view);
}

void Member::report(const Status& status) {
  if (was_in_touch_ != status.has_value()) {
    if (!status)
      log_->warn("the directory cannot be used, and what this node knows counts until it can: {}", status.error().message);
    if (status) log_->info("the directory is in use, as node '{}'", id_);
    was_in_touch_ = status.has_value();
  }
  const MutexLock lock(mutex_);
  state_.in_touch = status.has_value();
  ++(status ? state_.beats : state_.failures);
}

void Member::leave() {
  if (fleet_.empty()) return;
  const FleetKeys keys(std::exchange(fleet_, {}));
  const std::string id = id_;
  const auto is_ours = store_->hold(keys.lease(id), incarnation_, lease_time());
  if (!is_ours || !*is_ours) return;  // TTLs end what is there, or it is another's by now
  (void)store_->remove(keys.node(id));
  (void)store_->remove(keys.held(id));
  (void)store_->discard(keys.nodes(), std::span(&id, 1));
  (void)store_->release(keys.lease(id), incarnation_);
}

}  // namespace celslm
