// A node's membership in its fleet: it tells the others of itself, and reads what they tell.
//
//   Member member(std::move(store), describe, clock, log, {.id = "edge-7"});
//   member.start();
//   for (const FleetNode& node : member.view()->nodes) ...   // whenever it is wanted: never waits
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/log.h"
#include "core/mutex.h"
#include "core/paced_thread.h"
#include "core/result.h"
#include "fleet/directory/fleet_view.h"
#include "fleet/directory/keys.h"
#include "fleet/store/store.h"

namespace celslm {

// What a node says of itself at a beat. Its record's id and `held` are filled in by the Member.
struct FleetSelf {
  std::string fleet;  // see FleetKeys
  NodeRecord record;
  std::vector<HeldPack> held;  // those used last first
};

struct MemberOptions {
  std::string id;  // passes is_node_id(); empty: one is drawn
  Duration beat = std::chrono::seconds(5);
  int beats_of_lease = 3;  // a node that misses so many in a row is gone for the others
};

// For metrics and logs.
struct MemberState {
  std::string id;
  bool in_touch = false;       // the last beat succeeded
  std::uint64_t beats = 0;     // that succeeded
  std::uint64_t failures = 0;  // that did not
  std::uint64_t refused = 0;   // records and lists of others that were not as documented
  std::uint64_t renamed = 0;   // times another node held this one's id
  std::size_t nodes = 0;       // others that are known now
};

// Thread-safe but for start(), stop(), beat() and leave(), which one thread calls. Owns a thread once started; stop() or the
// destructor ends it, which takes at most the time of the store's calls, and gives up the lease.
//
// No wall clock is read and no node's time is compared with another's: that a node is alive is known by its key's TTL, which
// the store counts. While the store cannot be reached the view stays as it was last read, for kKept; then it is empty.
class Member {
 public:
  // Called before each beat; nothing: this node cannot be described yet, and takes no part until it can.
  using Describe = std::function<std::optional<FleetSelf>()>;
  // What else a node exchanges at a beat, once it is a member; an error counts as one of the beat. Empty: nothing.
  using Share = std::function<Status(Store& store, const FleetKeys& keys)>;
  static constexpr Duration kKept = std::chrono::minutes(10);
  static constexpr std::size_t kMaxNodes = 256;  // that are read at once: of a larger fleet a sample, another at each beat

  Member(std::unique_ptr<Store> store, Describe describe, const Clock& clock, Log log, const MemberOptions& options,
         Share share = {});
  ~Member();
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  void start();
  // Ends the thread and leaves. Idempotent; what is known stays.
  void stop();
  // Beats now rather than when it is time.
  void wake() CELSLM_EXCLUDES(mutex_);
  std::shared_ptr<const FleetView> view() const CELSLM_EXCLUDES(mutex_);  // never null
  MemberState state() const CELSLM_EXCLUDES(mutex_);

  // One exchange with the store, now. Errors of Store's calls.
  Status beat() CELSLM_EXCLUDES(mutex_);
  // The others learn at once that this node is gone.
  void leave() CELSLM_EXCLUDES(mutex_);

 private:
  struct ReadList {
    std::string revision;
    std::shared_ptr<const HeldPacks> packs;
  };

  Duration pause_after(const Status& status);
  Duration lease_time() const { return options_.beat * options_.beats_of_lease; }
  Status exchange(const FleetSelf& self) CELSLM_EXCLUDES(mutex_);
  void id_is_taken();
  Status publish(const FleetKeys& keys, const FleetSelf& self);
  Status publish_held(const FleetKeys& keys, const std::string& list);
  Result<std::vector<NodeRecord>> read_records(const FleetKeys& keys);
  Status read_held(const FleetKeys& keys, const std::vector<NodeRecord>& records);
  void refuse(const std::string& id, const Error& why) CELSLM_EXCLUDES(mutex_);
  void show(std::vector<NodeRecord> records) CELSLM_EXCLUDES(mutex_);
  void report(const Status& status) CELSLM_EXCLUDES(mutex_);

  const std::unique_ptr<Store> store_;
  const Describe describe_;
  const Share share_;
  const Clock& clock_;
  const Log log_;
  const MemberOptions options_;
  const std::string incarnation_;  // of this process: the owner of its lease

  // Of the thread that beats.
  std::string id_;
  std::string fleet_;                     // of the last beat that published; empty: none
  std::optional<TimePoint> taken_since_;  // another holds our id
  std::string published_list_;
  std::map<std::string, ReadList> lists_;  // by node
  std::set<std::string> refused_;          // nodes that the log knows of
  int failures_in_a_row_ = 0;
  std::optional<bool> was_in_touch_;  // what the log knows

  mutable Mutex mutex_;
  std::shared_ptr<const FleetView> view_ CELSLM_GUARDED_BY(mutex_) = std::make_shared<const FleetView>();
  MemberState state_ CELSLM_GUARDED_BY(mutex_);
  PacedThread thread_;
};

}  // namespace celslm
