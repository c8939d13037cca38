// ggml's Q8_0 in memory and in files: blocks of an f16 scale and 32 signed bytes.
#pragma once

#include <cstddef>

namespace celslm {

inline constexpr std::size_t kQ8Values = 32;            // of a block
inline constexpr std::size_t kQ8Bytes = 2 + kQ8Values;  // of a block

}  // namespace celslm
