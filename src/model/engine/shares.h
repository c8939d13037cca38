// The work of one operator in shares that its threads take from a counter: a thread that has lost its core for a while takes
// fewer, and the others do not wait for half of the work.
#pragma once

#include <atomic>

namespace celslm {

// Rows from which on an operator's work is shared out in more shares than threads. With fewer, threads that keep to their
// own part of the weights and of the KV heads read them better.
inline constexpr int kManyRows = 64;

// Any number of threads take; restart() while none does.
class Shares {
 public:
  static constexpr int kEach = 4;  // shares a thread would take of many rows if all were equally fast

  void restart() { taken_.store(0, std::memory_order_relaxed); }

  // Calls work(share, n) for shares of n until none is left. Every thread of the `nth` calls this once. What is called may
  // depend on the share only, not on who calls it.
  template <typename Work>
  void take(int each, int nth, const Work& work) {
    const int n = each * nth;
    for (int share = next(); share < n; share = next()) work(share, n);
  }

 private:
  int next() { return taken_.fetch_add(1, std::memory_order_relaxed); }

  std::atomic<int> taken_ = 0;
};

}  // namespace celslm
