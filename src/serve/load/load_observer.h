// What loads report of themselves, for an edge's metrics.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "serve/context/layer_origin.h"

namespace celslm {

// Of a context that has become complete.
struct LoadSummary {
  std::string codec;            // that was asked for
  std::array<int, 5> layers{};  // by Source: how many came mostly from there
  LoadReport report;
};

// Each thing is reported once, by the load itself, however many requests wait for its context. Called from any thread, with
// locks held: must not block, nor call a load.
class LoadObserver {
 public:
  virtual ~LoadObserver() = default;
  virtual void received(Source from, std::uint64_t bytes) = 0;  // of blocks, over the network
  virtual void wasted(std::uint64_t bytes) = 0;                 // of these, what came twice or too late
  virtual void completed(const LoadSummary& load) = 0;
  virtual void refused(Source source) = 0;  // what came has a wrong signature or hash, or is of another pack
};

}  // namespace celslm
