// A sender whose rate its receivers share fairly: each gets the same, or what its own link takes where that is less.
#pragma once

#include <vector>

namespace celslm {

class SharedPipe {
 public:
  explicit SharedPipe(double bytes_per_s) : bytes_per_s_(bytes_per_s) {}

  void add(int receiver, double most_bytes_per_s);
  void remove(int receiver);
  // Whether the shares have changed by more than a twentieth, or at all among few, since the last call of rebalance().
  bool is_out_of_balance() const;
  void rebalance();
  double rate_of(double most_bytes_per_s) const { return most_bytes_per_s < level_ ? most_bytes_per_s : level_; }

  const std::vector<int>& receivers() const { return receivers_; }  // in the order in which they were added
  double used_bytes_per_s() const;

 private:
  const double bytes_per_s_;
  std::vector<int> receivers_;
  std::vector<double> most_;  // of each
  std::size_t balanced_for_ = 0;
  double level_ = 1e18;
};

}  // namespace celslm
