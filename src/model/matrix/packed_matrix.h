// Products with quantized weights on the CPU, without ggml: one kernel for all types, on weights that stay about as small as
// they are in the file.
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
#include "model/matrix/weight_type.h"

namespace celslm {

// 32 of one token's activations, rounded.
struct Q8Block {
  float scale = 0.0F;
  float sum = 0.0F;                       // of what the values stand for
  std::int32_t correction = 0;            // -128 * sum(values): most weights are unpacked with 128 added, to be unsigned
  std::int32_t part_corrections[2] = {};  // the same of each half
  std::int8_t values[32] = {};
};

// in: [n_tokens][n_in], out: [n_tokens][n_in / 32]. Thread `ith` of `nth` does its share of the tokens.
void q8_quantize(const float* in, std::int64_t n_in, std::int64_t n_tokens, Q8Block* out, int ith, int nth);

// Of the panels in memory and in files; changed with every change of what they hold.
inline constexpr int kPanelLayout = 1;

// What is added to a product, in this order; either may be null.
struct Addends {
  const float* bias = nullptr;      // [n_out]
  const float* residual = nullptr;  // [n_tokens][n_out]
};

// A weight matrix [n_out][n_in] in panels of 32 rows, so that one vector of activations meets 32 rows. Immutable;
// thread-safe.
class PackedMatrix {
 public:
  static constexpr std::int64_t kBlock = 32;  // activations that share a scale
  static constexpr std::int64_t kPanel = 32;  // rows

  // What the panels of such a matrix take. kInvalid unless n_in is a multiple of the type's blocks.
  static Result<std::size_t> panel_bytes(WeightType type, std::int64_t n_in, std::int64_t n_out);

  // file: the rows as a GGUF has them. kInvalid as above, or if the size disagrees; kOverloaded when the memory, or a
  // thread, cannot be had.
  static Result<std::unique_ptr<PackedMatrix>> create(WeightType type, ByteView file, std::int64_t n_in, std::int64_t n_out,
                                                      int n_threads = 1);
  // panels: those of a matrix of the same type and shape, aligned to 64 bytes. `owner` keeps them alive.
  static Result<std::unique_ptr<PackedMatrix>> view(WeightType type, ByteView panels, std::int64_t n_in, std::int64_t n_out,
                                                    std::shared_ptr<const void> owner);

  std::int64_t n_in() const { return n_in_; }
  std::int64_t n_out() const { return n_out_; }
  std::size_t size_bytes() const { return size_bytes_; }
  ByteView panels() const { return {reinterpret_cast<const std::byte*>(panels_), size_bytes_}; }

  // out[t][r] = sum over i of weights[r][i] * x[t][i], then what is to be added. x: [n_tokens][n_in / 32]; out:
  // [n_tokens][n_out]. Thread `ith` of `nth` does its share of the rows; no allocation.
  void multiply(const Q8Block* x, std::int64_t n_tokens, float* out, int ith, int nth, const Addends& then = {}) const;

 private:
  PackedMatrix(WeightType type, std::int64_t n_in, std::int64_t n_out, std::size_t size_bytes)
      : type_(type), n_in_(n_in), n_out_(n_out), size_bytes_(size_bytes) {}

  const WeightType type_;
  const std::int64_t n_in_;
  const std::int64_t n_out_;
  const std::size_t size_bytes_;
  std::shared_ptr<const void> owner_;
  const std::uint8_t* panels_ = nullptr;
};

}  // namespace celslm
