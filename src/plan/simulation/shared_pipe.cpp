#include "plan/simulation/shared_pipe.h"

#include <algorithm>

namespace celslm {
namespace {

constexpr std::size_t kFew = 20;  // below that each one's coming and going changes the shares

}  // namespace

void SharedPipe::add(int receiver, double most_bytes_per_s) {
  receivers_.push_back(receiver);
  most_.push_back(most_bytes_per_s);
}

void SharedPipe::remove(int receiver) {
  const auto it = std::ranges::find(receivers_, receiver);
  if (it == receivers_.end()) return;
  most_.erase(most_.begin() + (it - receivers_.begin()));
  receivers_.erase(it);
}

bool SharedPipe::is_out_of_balance() const {
  const std::size_t n = receivers_.size();
  const std::size_t change = n > balanced_for_ ? n - balanced_for_ : balanced_for_ - n;
  return n < kFew ? change > 0 || n != balanced_for_ : change * 20 > n;
}

// Those that take less than an equal share leave the rest of theirs to the others.
void SharedPipe::rebalance() {
  balanced_for_ = receivers_.size();
  std::vector<double> most = most_;
  std::ranges::sort(most);
  double left = bytes_per_s_;
  level_ = 1e18;
  for (std::size_t i = 0; i < most.size(); ++i) {
    const double share = left / static_cast<double>(most.size() - i);
    if (most[i] > share) {
      level_ = share;
      return;
    }
    left -= most[i];
  }
}

double SharedPipe::used_bytes_per_s() const {
  double out = 0;
  for (const double most : most_) out += rate_of(most);
  return std::min(out, bytes_per_s_);
}

}  // namespace celslm
