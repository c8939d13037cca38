// Which edges have asked a cloud lately, for people's pages.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "core/clock.h"
#include "core/mutex.h"

namespace celslm {

// An edge asks for the cloud's list of contexts every few minutes at least and names itself in the header kEdgeHeader
// (serve/wire/edge_header.h). Thread-safe; holds a bounded number of names, the latest.
class EdgeSightings {
 public:
  explicit EdgeSightings(const Clock& clock) : clock_(clock) {}

  // name: as the edge sent it. What is empty, too long or not printable ASCII is ignored.
  void seen(const std::string& name) CELSLM_EXCLUDES(mutex_);
  // [{"name","seconds_ago"}], those of the last ten minutes.
  nlohmann::json list() const CELSLM_EXCLUDES(mutex_);

 private:
  const Clock& clock_;
  mutable Mutex mutex_;
  std::map<std::string, TimePoint> last_ CELSLM_GUARDED_BY(mutex_);
};

}  // namespace celslm
