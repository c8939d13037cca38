// What an edge has measured, from one context's load to the next.
#pragma once

#include <map>
#include <string>

#include "core/clock.h"
#include "core/mutex.h"
#include "plan/estimate.h"

namespace celslm {

// Thread-safe.
class SourceMemory {
 public:
  LinkEstimate link(const std::string& name) const CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    const auto it = links_.find(name);
    return it == links_.end() ? LinkEstimate() : it->second.estimate;
  }
  void keep_link(const std::string& name, const LinkEstimate& estimate) CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    links_[name].estimate = estimate;
  }

  // A source that failed is not asked until then.
  void back_off(const std::string& name, TimePoint until) CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    links_[name].not_before = until;
  }
  bool backs_off(const std::string& name, TimePoint now) const CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    const auto it = links_.find(name);
    return it != links_.end() && now < it->second.not_before;
  }

  // Seconds that a layer of a context takes per unit of work; 0: never measured. The unit is the caller's.
  double compute_s_per_work() const CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    return compute_.mean();
  }
  void computed(double seconds_per_work) CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    if (seconds_per_work > 0) compute_.add(seconds_per_work);
  }

 private:
  struct Link {
    LinkEstimate estimate;
    TimePoint not_before{};
  };
  mutable Mutex mutex_;
  std::map<std::string, Link> links_ CELSLM_GUARDED_BY(mutex_);
  Ewma compute_ CELSLM_GUARDED_BY(mutex_);
};

}  // namespace celslm
