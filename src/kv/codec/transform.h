// The arithmetic of the transform codecs: a basis fitted to one head's rows, and rows from coefficients. Internal to kv.
//
// A row y (head_dim values) is held as integers: y = unit * (offset + sum over i of coefficient[i] * basis[i]), where
// basis[i] is a direction times basis_scale(head_dim), rounded, and each channel has a unit of its own. Sums of integers are
// exact in any order, so every CPU decodes the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace celslm {

inline constexpr int kMaxTransformWidth = 256;       // head_dim; with the two below no sum leaves 32 bits
inline constexpr int kMaxCoefficient = 32767;        // magnitude
inline constexpr std::int32_t kMaxOffset = 1 << 29;  // magnitude

// What a direction of length 1 is multiplied by before rounding: four steps for the size of an average entry. Coarse on
// purpose: the encoder solves for coefficients of the rounded basis, so rounding costs only a little of its fit.
float basis_scale(std::size_t width);

struct Basis {
  std::vector<std::int8_t> directions;  // [rank][width]
  std::vector<float> analysis;          // [rank][width]: coefficient i of a row in units of one is its product with row i
  std::size_t rank = 0;
};

// rows: [n][width], mean already taken off, n > 0, finite. Keeps the directions along which the rows' standard deviation
// exceeds 0.4 steps, largest first. Same input, same basis on every CPU: no sum is reordered or fused.
Basis fit_basis(std::span<const float> rows, std::size_t width, float step);
// The axes themselves, all of them, for blocks too short to be worth a basis: directions are 1 instead of basis_scale().
Basis axes(std::size_t width);

// coefficients: [rank][n], from rows [n][width]; rounded to integer steps, halves to even, clipped to kMaxCoefficient.
void analyse(const Basis& basis, std::span<const float> rows, std::size_t width, float step,
             std::span<std::int16_t> coefficients);

// One head of a block, made ready to yield rows.
class Synthesizer {
 public:
  // directions: [rank][width]; offset: [width], magnitudes up to kMaxOffset; units: [width].
  Synthesizer(std::span<const std::int8_t> directions, std::span<const std::int32_t> offset, std::span<const float> units);
  // coefficients: [rank][n]. Row t goes to out + t * stride. The largest magnitude of the values written.
  float rows(std::span<const std::int16_t> coefficients, std::size_t n, float* out, std::size_t stride) const;

 private:
  std::size_t rank_;
  std::size_t width_;
  std::size_t padded_;                    // width, up to complete vectors of any CPU
  std::vector<std::int32_t> directions_;  // [ceil(rank / 2)][padded]: two 16-bit numbers each, of neighbouring directions
  std::vector<std::int32_t> offset_;      // [padded]
  std::vector<float> units_;              // [padded]
};

}  // namespace celslm
