#include "serve/cloud/edge_sightings.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace celslm {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr Duration kRemembered = 10min;
constexpr std::size_t kMaxNameBytes = 64;
constexpr std::size_t kMaxEdges = 1024;  // a peer that calls itself something else each time would fill memory

bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= kMaxNameBytes &&
         std::ranges::all_of(text, [](unsigned char c) { return c >= 0x20 && c < 0x7F; });
}

}  // namespace

void EdgeSightings::seen(const std::string& name) {
  if (!is_name(name)) return;
  const TimePoint now = clock_.now();
  const MutexLock lock(mutex_);
  std::erase_if(last_, [&](const auto& edge) { return now - edge.second > kRemembered; });
  if (last_.size() < kMaxEdges || last_.contains(name)) last_[name] = now;
}

json EdgeSightings::list() const {
  const TimePoint now = clock_.now();
  json out = json::array();
  const MutexLock lock(mutex_);
  for (const auto& [name, at] : last_) {
    if (now - at <= kRemembered) out.push_back({{"name", name}, {"seconds_ago", seconds(now - at)}});
  }
  return out;
}

}  // namespace celslm
