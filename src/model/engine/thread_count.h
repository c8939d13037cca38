// How many threads compute on a machine that does other things, too.
//
// Each operator of a graph ends when its last thread does. If one of the threads has to wait for a core that something else
// uses, all others wait for it, spinning: beside one busy process two threads on two cores decode at a tenth of the speed of
// one. So a core that is taken is left to whoever took it, and tried again from time to time once a core of the machine is
// idle.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

namespace celslm {

// Spent on a graph, or several: differences of a process's clocks.
struct CpuSpent {
  double wall_s = 0.0;
  double cpu_s = 0.0;    // of all threads
  long preemptions = 0;  // how often a thread had to leave its core
};

// Pure logic. One thread at a time.
class ThreadCount {
 public:
  // has_idle_core: whether the machine has one. Asked only when one thread more is to be tried.
  ThreadCount(int most, std::function<bool()> has_idle_core)
      : most_(most), has_idle_core_(std::move(has_idle_core)), now_(most) {}

  int now() const { return now_; }
  void add(const CpuSpent& graph) {
    window_.wall_s += graph.wall_s;
    window_.cpu_s += graph.cpu_s;
    window_.preemptions += graph.preemptions;
    if (window_.wall_s < kWindow) return;
    decide();
    window_ = {};
  }

 private:
  static constexpr double kTolerated = 0.25;   // cores that threads may lose before there are fewer of them
  static constexpr double kWindow = 0.02;      // seconds that a decision looks at
  static constexpr double kFirstWait = 0.25;   // seconds of computing until one thread more is tried
  static constexpr double kLongestWait = 4.0;  // after it was tried in vain several times

  // A thread that sleeps because others are slower, or that waits for memory, has not lost its core.
  double lost() const { return window_.preemptions == 0 ? 0.0 : static_cast<double>(now_) - window_.cpu_s / window_.wall_s; }

  void decide() {
    const double cores = lost();
    since_change_ += window_.wall_s;
    if (now_ > 1 && cores >= kTolerated) {
      wait_ = trying_ ? std::min(2 * wait_, kLongestWait) : kFirstWait;
      change(std::max(1, now_ - std::max(1, static_cast<int>(std::lround(cores)))));
      trying_ = false;
    } else if (now_ < most_ && since_change_ >= wait_ && has_idle_core_()) {
      change(now_ + 1);
      trying_ = true;
    } else if (trying_ && since_change_ >= kFirstWait) {
      trying_ = false;
      wait_ = kFirstWait;
    }
  }

  void change(int threads) {
    now_ = threads;
    since_change_ = 0.0;
  }

  const int most_;
  const std::function<bool()> has_idle_core_;
  int now_;
  CpuSpent window_;
  double since_change_ = 0.0;
  double wait_ = kFirstWait;
  bool trying_ = false;  // the last change was one thread more, and has not lasted yet
};

// Whether fewer threads of all processes run, or want to, than the machine has cores.
bool machine_has_idle_core();

// Measures one graph from construction to spent().
class CpuMeter {
 public:
  CpuMeter();
  CpuSpent spent() const;

 private:
  CpuSpent began_;
};

}  // namespace celslm
