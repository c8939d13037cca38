// Waiting for what another thread is about to do.
#pragma once

#include <chrono>
#include <functional>
#include <thread>

namespace celslm::testing_support {

// Until the condition holds. False only if a generous time limit expires.
inline bool eventually(const std::function<bool()>& condition, std::chrono::seconds limit = std::chrono::seconds(20)) {
  const auto guard = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > guard) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace celslm::testing_support
