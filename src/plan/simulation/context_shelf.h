// Which contexts fit somewhere: the least recently used make room.
#pragma once

#include <algorithm>
#include <vector>

namespace celslm {

class ContextShelf {
 public:
  explicit ContextShelf(double bytes) : room_(bytes) {}

  bool has(int context) const { return std::ranges::find(items_, context, &Item::context) != items_.end(); }
  void use(int context) {
    const auto it = std::ranges::find(items_, context, &Item::context);
    if (it != items_.end()) std::rotate(it, it + 1, items_.end());
  }
  // One that is larger than everything is kept alone.
  void add(int context, double bytes) {
    if (has(context)) return use(context);
    while (!items_.empty() && room_ < bytes) {
      room_ += items_.front().bytes;
      items_.erase(items_.begin());
    }
    items_.push_back({context, bytes});
    room_ -= bytes;
  }
  void clear() {
    for (const Item& item : items_) room_ += item.bytes;
    items_.clear();
  }

 private:
  struct Item {
    int context = 0;
    double bytes = 0;
  };
  double room_;
  std::vector<Item> items_;  // the least recently used first
};

}  // namespace celslm
