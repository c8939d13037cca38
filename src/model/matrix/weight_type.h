// The quantized types of weights that our own products take: those of GGUF, without ggml. kQ40 is Q4_0, and so on.
#pragma once

#include <cstddef>
#include <cstdint>

namespace celslm {

enum class WeightType : std::uint8_t { kQ40, kQ41, kQ50, kQ51, kQ80, kIq4Nl, kMxfp4, kQ2K, kQ3K, kQ4K, kQ5K, kQ6K };

// A row of a matrix is a sequence of these.
struct FileBlock {
  std::int64_t values = 0;
  std::size_t bytes = 0;
};

constexpr FileBlock file_block(WeightType type) {
  switch (type) {
    case WeightType::kQ40: return {32, 18};
    case WeightType::kQ41: return {32, 20};
    case WeightType::kQ50: return {32, 22};
    case WeightType::kQ51: return {32, 24};
    case WeightType::kQ80: return {32, 34};
    case WeightType::kIq4Nl: return {32, 18};
    case WeightType::kMxfp4: return {32, 17};
    case WeightType::kQ2K: return {256, 84};
    case WeightType::kQ3K: return {256, 110};
    case WeightType::kQ4K: return {256, 144};
    case WeightType::kQ5K: return {256, 176};
    case WeightType::kQ6K: return {256, 210};
  }
  return {};
}

}  // namespace celslm
