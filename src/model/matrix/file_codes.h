// Rows of quantized matrices as GGUF files hold them (ggml's formats), taken apart.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/matrix/weight_type.h"

namespace celslm::packed_detail {

// One block of a row. `codes` are unsigned numbers of the type's bits; what they stand for is in Layout.
struct FileCodes {
  std::uint8_t codes[256] = {};  // of which file_block().values are set
  std::uint8_t scales[16] = {};  // bytes for each 16 or 32 values, where the type has them; as Scaling says
  std::uint8_t mins[16] = {};    // to be subtracted
  std::uint16_t scale = 0;       // f16 bits
  std::uint16_t min = 0;
};

void read_codes(WeightType type, const std::byte* block, FileCodes& out);

}  // namespace celslm::packed_detail
