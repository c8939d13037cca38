// A transfer: a request to one source for adjacent blocks.
#pragma once

#include <cstdint>

#include "core/clock.h"

namespace celslm {

using SourceId = int;
using TransferId = std::uint64_t;

// Blocks are numbered layer by layer.
struct BlockRange {
  int first = 0;
  int count = 0;

  int end() const { return first + count; }
};

// A transfer under way. Its blocks arrive in order.
struct Transfer {
  TransferId id = 0;
  SourceId source = 0;
  BlockRange blocks;
  int next = 0;                     // the block that arrives next
  std::uint64_t partial_bytes = 0;  // of that block, here already
  bool answered = false;            // its first byte has arrived
  bool with_header = false;  // asks for the pack's header, too: how long that takes tells nothing about other requests
  TimePoint began{};
  TimePoint progressed{};  // when a block was last complete; before that, when the first byte arrived, or `began`
};

enum class TransferEnd { kDone, kFailed, kRefused };  // kRefused: this source will never supply these blocks

}  // namespace celslm
