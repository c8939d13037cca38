#include "plan/block_table.h"

namespace celslm {

BlockTable::BlockTable(LoadShape shape)
    : shape_(std::move(shape)),
      blocks_(static_cast<std::size_t>(shape_.n_blocks())),
      n_missing_(static_cast<std::size_t>(shape_.n_layers)),
      missing_bytes_(static_cast<std::size_t>(shape_.n_layers)) {
  for (int layer = 0; layer < shape_.n_layers; ++layer)
    n_missing_[static_cast<std::size_t>(layer)] = shape_.blocks_of(layer);
  for (int i = 0; i < shape_.n_blocks(); ++i)
    missing_bytes_[static_cast<std::size_t>(shape_.layer_of(i))] += shape_.bytes_of(i);
}

bool BlockTable::any_missing(int first, int end) const {
  for (int block = first; block < end; ++block) {
    if (is_missing(block)) return true;
  }
  return false;
}

bool BlockTable::claim(int block) {
  if (!is_missing(block)) return false;
  at(block).state = State::kClaimed;
  return true;
}

void BlockTable::written(int block) {
  if (at(block).state == State::kWritten) return;
  at(block).state = State::kWritten;
  const auto layer = static_cast<std::size_t>(shape_.layer_of(block));
  --n_missing_[layer];
  missing_bytes_[layer] -= shape_.bytes_of(block);
  ++n_written_;
}

void BlockTable::released(int block) {
  if (at(block).state == State::kClaimed) at(block).state = State::kMissing;
}

void BlockTable::transfer_began(BlockRange range) {
  for (int block = range.first; block < range.end(); ++block) ++at(block).transfers;
}

void BlockTable::transfer_ended(BlockRange range) {
  for (int block = range.first; block < range.end(); ++block) --at(block).transfers;
}

}  // namespace celslm
