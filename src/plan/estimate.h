// What is measured of links and of this box: means that follow changes, each with its spread.
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

// A link, or any other way by which blocks come, as seen by its receiver.
struct LinkEstimate {
  Ewma rate_bytes_per_s;  // of all connections together
  Ewma latency_s;         // from a request to its first byte
};

// Samples of a link's rate: bytes over the time in which at least one request was being answered. Idle time does not count,
// and neither does the wait for the first byte.
class RateMeter {
 public:
  void open(TimePoint now);  // a first byte; no effect while open
  // Bytes that have come. A sample when enough time has passed to tell a rate by, or at once if that is `wanted`.
  std::optional<double> add(std::uint64_t bytes, TimePoint now, bool wanted = false);
  std::optional<double> close(TimePoint now);  // nothing is under way any more

 private:
  std::optional<double> sample(TimePoint now);
  bool open_ = false;
  TimePoint since_{};
  std::uint64_t bytes_ = 0;
};

}  // namespace celslm
