// How a PackedMatrix lies in memory, for its kernel and its maker.
//
// A panel is 32 rows. Of 32 consecutive values of these rows, four at a time (a "quad") are what one lane of an integer dot
// product takes, so values are ordered [quad][row][value of the quad]. Codes of fewer than 8 bits are split into planes of
// 4, 2 and 1 bits; a byte of a plane holds bits of one row's values in several quads. Where rows have a scale for each 16 or
// 32 values that multiplies one for 256, eight such blocks share the latter: a group.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/matrix/weight_type.h"

namespace celslm::packed_detail {

inline constexpr int kRows = 32;    // of a panel
inline constexpr int kQuads = 8;    // groups of four consecutive values in a block
inline constexpr int kQuad = 4;     // values
inline constexpr int kValues = 32;  // of a row in a block
inline constexpr int kQuadBytes = kRows * kQuad;
inline constexpr std::size_t kBlockValues = std::size_t{kQuads} * kQuadBytes;  // of all rows

enum class Scaling : std::uint8_t {
  kHalf,      // an f16
  kExponent,  // 2^(byte - 128)
  kSigned,    // a signed byte for each 16 or 32 values, times an f16 for 256
  kUnsigned,  // an unsigned one
  kNibbles,   // an unsigned one of 4 bits, with that of the min above it
};

struct Layout {
  int bits = 0;   // of a code
  int parts = 1;  // of a block with scales of their own: 1 of 32 values, or 2 of 16
  Scaling scaling = Scaling::kHalf;
  bool mins = false;  // a value is scale * code + min, else scale * (code - offset)
  int offset = 0;
  std::array<std::int8_t, 16> table = {};  // what a code of 4 bits stands for, if it is no number itself
  bool has_table = false;
  int group = 1;  // blocks

  constexpr std::size_t plane_bytes() const { return kBlockValues * static_cast<std::size_t>(bits) / 8; }
  constexpr bool byte_scales() const { return scaling != Scaling::kHalf; }
  constexpr std::size_t part_bytes() const { return static_cast<std::size_t>(parts) * kRows; }
  constexpr std::size_t scales_at() const { return plane_bytes(); }
  constexpr std::size_t mins_at() const { return scales_at() + (byte_scales() ? part_bytes() : 0); }
  constexpr std::size_t block_bytes() const { return mins_at() + (scaling == Scaling::kUnsigned ? part_bytes() : 0); }
  // Of the f16 numbers of a group: for each row its scale, then its min.
  constexpr std::size_t halves_at() const { return block_bytes() * static_cast<std::size_t>(group); }
  constexpr std::size_t group_bytes() const {
    const std::size_t halves = scaling == Scaling::kExponent ? 0 : (mins ? 2 : 1);
    return halves_at() + halves * kRows * sizeof(std::uint16_t);
  }
};

inline constexpr std::array<std::int8_t, 16> kIq4NlTable = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                            1,    13,   25,  38,  53,  69,  89,  113};
// Twice an E2M1 number.
inline constexpr std::array<std::int8_t, 16> kMxfp4Table = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

constexpr Layout layout_of(WeightType type) {
  switch (type) {
    case WeightType::kQ40: return {.bits = 4, .offset = 8};
    case WeightType::kQ41: return {.bits = 4, .mins = true};
    case WeightType::kQ50: return {.bits = 5, .offset = 16};
    case WeightType::kQ51: return {.bits = 5, .mins = true};
    case WeightType::kQ80: return {.bits = 8, .offset = 128};
    case WeightType::kIq4Nl: return {.bits = 4, .table = kIq4NlTable, .has_table = true};
    case WeightType::kMxfp4: return {.bits = 4, .scaling = Scaling::kExponent, .table = kMxfp4Table, .has_table = true};
    case WeightType::kQ2K: return {.bits = 2, .parts = 2, .scaling = Scaling::kNibbles, .mins = true, .group = 8};
    case WeightType::kQ3K: return {.bits = 3, .parts = 2, .scaling = Scaling::kSigned, .offset = 4, .group = 8};
    case WeightType::kQ4K: return {.bits = 4, .scaling = Scaling::kUnsigned, .mins = true, .group = 8};
    case WeightType::kQ5K: return {.bits = 5, .scaling = Scaling::kUnsigned, .mins = true, .group = 8};
    case WeightType::kQ6K: return {.bits = 6, .parts = 2, .scaling = Scaling::kSigned, .offset = 32, .group = 8};
  }
  return {};
}

// What a block's values are multiplied by, and what is added to them: of up to two parts, for each row.
struct Factors {
  float scales[2][kRows];
  float mins[2][kRows];
};

// The instruction sets that products were compiled for and that this machine has, as Highway numbers them; for tests.
std::vector<std::int64_t> usable_targets();

}  // namespace celslm::packed_detail
