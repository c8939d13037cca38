// Products with Q8_0 weights on the CPU, without ggml: ggml has a repacked, fast form for Q4_0 and others but none for Q8_0,
// the type of most quantized models' output head.
//
// As in ggml, each block of 32 activations is rounded to 8 bits with a scale of its own, block products are summed exactly
// in integers, and blocks are added in f32. The bits of a result depend on its row and its token alone: not on the batch,
// the threads or the instruction set (as long as that has fused multiply-add).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/bytes.h"
#include "core/result.h"

namespace celslm {

// One token's activations, rounded: n_in / 32 of these, one after the other.
struct Q8Block {
  float scale = 0.0F;
  std::int32_t correction = 0;  // -128 * sum(values): weights are stored with 128 added, to be unsigned
  std::int8_t values[32] = {};
};

// in: [n_tokens][n_in], out: [n_tokens][n_in / 32]. Thread `ith` of `nth` does its share of the tokens.
void q8_quantize(const float* in, std::int64_t n_in, std::int64_t n_tokens, Q8Block* out, int ith, int nth);

// A weight matrix [n_out][n_in] in panels of 32 rows, so that one vector of activations meets 32 rows. About as large as in
// the file. Immutable after create(); thread-safe.
class Q8Matrix {
 public:
  static constexpr std::int64_t kBlock = 32;  // values that share a scale
  static constexpr std::int64_t kPanel = 32;  // rows

  // q8_0: ggml's rows of blocks {f16 scale, 32 x i8}. kInvalid unless n_in is a multiple of 32 and the sizes agree;
  // kOverloaded when the memory cannot be had.
  static Result<std::unique_ptr<Q8Matrix>> create(ByteView q8_0, std::int64_t n_in, std::int64_t n_out);

  std::int64_t n_in() const { return n_in_; }
  std::int64_t n_out() const { return n_out_; }
  std::size_t size_bytes() const;

  // out[t][r] = sum over i of weights[r][i] * x[t][i]. x: [n_tokens][n_in / 32]; out: [n_tokens][n_out]. Thread `ith` of
  // `nth` does its share of the rows; no allocation.
  void multiply(const Q8Block* x, std::int64_t n_tokens, float* out, int ith, int nth) const;

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  Q8Matrix(std::int64_t n_in, std::int64_t n_out, std::unique_ptr<std::byte[], Free> panels);

  const std::int64_t n_in_;
  const std::int64_t n_out_;
  const std::unique_ptr<std::byte[], Free> panels_;
};

}  // namespace celslm
