// How a Q8Matrix lies in memory, for its kernel and its maker.
#pragma once

#include <cstdint>

namespace celslm::q8_detail {

inline constexpr int kRows = 32;  // of a panel
inline constexpr int kQuads = 8;  // groups of four consecutive values in a block
inline constexpr int kQuad = 4;   // what one lane of an integer dot product takes

// 32 values of each of 32 rows. A panel is n_in / 32 of these, one after the other; a matrix ceil(n_out / 32) panels, the
// last one filled up with rows of scale 0.
struct PanelBlock {
  std::uint8_t values[kQuads][kRows][kQuad];  // weight + 128
  std::uint16_t scales[kRows];                // f16 bits
};
static_assert(sizeof(PanelBlock) == 1088);

}  // namespace celslm::q8_detail
