// What an edge has measured, from one context's load to the next.
#pragma once

#include <map>
#include <mutex>
#include <string>

#include "core/clock.h"
#include "plan/estimate.h"

namespace celslm {

// Thread-safe.
class SourceMemory {
 public:
  LinkEstimate link(const std::string& name) const {
    const std::scoped_lock lock(mutex_);
    const auto it = links_.find(name);
    return it == links_.end() ? LinkEstimate() : it->second.estimate;
  }
  void keep_link(const std::string& name, const LinkEstimate& estimate) {
    const std::scoped_lock lock(mutex_);
    links_[name].estimate = estimate;
  }

  // A source that failed is left alone until then.
  void rest(const std::string& name, TimePoint until) {
    const std::scoped_lock lock(mutex_);
    links_[name].rests_until = until;
  }
  bool rests(const std::string& name, TimePoint now) const {
    const std::scoped_lock lock(mutex_);
    const auto it = links_.find(name);
    return it != links_.end() && now < it->second.rests_until;
  }

  // Seconds that a layer of a context takes per unit of work; 0: never measured. The unit is the caller's.
  double compute_s_per_work() const {
    const std::scoped_lock lock(mutex_);
    return compute_.mean();
  }
  void computed(double seconds_per_work) {
    const std::scoped_lock lock(mutex_);
    if (seconds_per_work > 0) compute_.add(seconds_per_work);
  }

 private:
  struct Link {
    LinkEstimate estimate;
    TimePoint rests_until{};
  };
  mutable std::mutex mutex_;
  std::map<std::string, Link> links_;  // protected by mutex_
  Ewma compute_;                       // protected by mutex_
};

}  // namespace celslm
