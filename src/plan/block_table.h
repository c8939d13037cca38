// Which blocks of a context are here, which are being written, and which are missing.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "plan/transfer.h"

namespace celslm {

// Blocks are numbered layer by layer.
struct LoadShape {
  int n_layers = 0;
  int blocks_per_layer = 0;
  std::vector<std::uint32_t> block_bytes;  // [n_blocks()]
  std::vector<int> first_blocks =
      {};  // [n_layers + 1], where layers have different numbers of blocks; empty: blocks_per_layer

  int first_block(int layer) const {
    return first_blocks.empty() ? layer * blocks_per_layer : first_blocks[static_cast<std::size_t>(layer)];
  }
  int blocks_of(int layer) const { return first_block(layer + 1) - first_block(layer); }
  int n_blocks() const { return first_block(n_layers); }
  int layer_of(int block) const {
    if (first_blocks.empty()) return block / blocks_per_layer;
    return static_cast<int>(std::ranges::upper_bound(first_blocks, block) - first_blocks.begin()) - 1;
  }
  std::uint32_t bytes_of(int block) const { return block_bytes[static_cast<std::size_t>(block)]; }
  std::uint64_t bytes_of(BlockRange range) const {
    const auto begin = block_bytes.begin() + range.first;
    return std::accumulate(begin, begin + range.count, std::uint64_t{0});
  }
};

// Each block is written once, by whoever claimed it. Not thread-safe, like the plan that owns it.
class BlockTable {
 public:
  explicit BlockTable(LoadShape shape);

  const LoadShape& shape() const { return shape_; }
  bool is_missing(int block) const { return at(block).state == State::kMissing; }
  bool is_written(int block) const { return at(block).state == State::kWritten; }
  bool any_missing(int first, int end) const;
  // Missing, and no transfer is under way that would bring it.
  bool is_free(int block) const { return is_missing(block) && at(block).transfers == 0; }
  std::span<const std::uint64_t> missing_bytes() const { return missing_bytes_; }  // [n_layers]
  bool layer_complete(int layer) const { return n_missing_[static_cast<std::size_t>(layer)] == 0; }
  bool complete() const { return n_written_ == shape_.n_blocks(); }

  // True if the block is missing; then it is the caller's to write, who ends with written() or released().
  bool claim(int block);
  void written(int block);
  void released(int block);
  void transfer_began(BlockRange range);
  void transfer_ended(BlockRange range);

 private:
  enum class State : std::uint8_t { kMissing, kClaimed, kWritten };
  struct Block {
    State state = State::kMissing;
    std::uint8_t transfers = 0;  // under way
  };
  Block& at(int block) { return blocks_[static_cast<std::size_t>(block)]; }
  const Block& at(int block) const { return blocks_[static_cast<std::size_t>(block)]; }

  const LoadShape shape_;
  std::vector<Block> blocks_;
  std::vector<int> n_missing_;                // [n_layers]: not written
  std::vector<std::uint64_t> missing_bytes_;  // [n_layers]: of these
  int n_written_ = 0;
};

}  // namespace celslm
