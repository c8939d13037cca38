// What is measured of sources and of this machine: means that follow changes, each with its spread.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>

#include "core/clock.h"

namespace celslm {

// Exponentially weighted mean and mean absolute deviation. The first few values weigh equally, later ones a quarter each.
class Ewma {
 public:
  void add(double value);
  bool known() const { return n_ > 0; }
  double mean() const { return mean_; }
  double spread() const { return spread_; }
  double mean_or(double otherwise) const { return known() ? mean_ : otherwise; }

 private:
  double mean_ = 0;
  double spread_ = 0;
  int n_ = 0;
};

// How fast a source supplies blocks, as measured by the receiver.
struct LinkEstimate {
  Ewma rate_bytes_per_s;  // of all connections together
  Ewma latency_s;         // from a request to its first byte
};

// Samples of a source's rate: bytes over the time in which at least one answer was arriving. Idle time does not count, nor
// does the wait for the first byte.
class RateMeter {
 public:
  // An answer begins with these bytes, or ends. Several may be arriving at once.
  void begin(std::uint64_t bytes, TimePoint now);
  void end(TimePoint now);
  // More bytes of any answer.
  void add(std::uint64_t bytes, TimePoint now);
  // A sample, if enough has arrived since the last one; with `roughly` less is enough.
  std::optional<double> sample(bool roughly);

 private:
  void pass(TimePoint now);
  int answers_ = 0;
  TimePoint since_{};
  double busy_s_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace celslm
