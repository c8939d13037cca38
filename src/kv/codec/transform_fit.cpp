#include <algorithm>
#include <cmath>
#include <numeric>

#include "kv/codec/transform.h"

namespace celslm {
namespace {

constexpr double kKeptDeviation = 0.4;  // steps; weaker directions cost more to send than they repair
constexpr int kMaxSweeps = 12;

// A symmetric matrix and the rotations that make it diagonal.
struct Spectrum {
  std::vector<double> matrix;   // [n][n], in the end diagonal: the variances
  std::vector<double> vectors;  // [n][n], row i belongs to matrix[i][i]
  std::size_t n = 0;
};

std::vector<double> covariance(std::span<const float> rows, std::size_t width) {
  std::vector<double> out(width * width);
  const std::size_t n = rows.size() / width;
  for (std::size_t t = 0; t < n; ++t) {
    const float* row = rows.data() + t * width;
    for (std::size_t i = 0; i < width; ++i) {
      const double value = row[i];
      for (std::size_t j = 0; j <= i; ++j) out[i * width + j] += value * row[j];
    }
  }
  for (std::size_t i = 0; i < width; ++i) {
    for (std::size_t j = 0; j <= i; ++j) out[j * width + i] = out[i * width + j] /= static_cast<double>(n);
  }
  return out;
}

void rotate_rows(double* a, double* b, std::size_t n, double cosine, double sine) {
  for (std::size_t k = 0; k < n; ++k) {
    const double x = a[k];
    const double y = b[k];
    a[k] = cosine * x - sine * y;
    b[k] = sine * x + cosine * y;
  }
}

// Jacobi's rotation that makes element (p, q) zero.
void rotate(Spectrum& s, std::size_t p, std::size_t q) {
  const double off = s.matrix[p * s.n + q];
  const double theta = (s.matrix[q * s.n + q] - s.matrix[p * s.n + p]) / (2.0 * off);
  const double tangent = std::copysign(1.0, theta) / (std::abs(theta) + std::sqrt(theta * theta + 1.0));
  const double cosine = 1.0 / std::sqrt(tangent * tangent + 1.0);
  const double sine = tangent * cosine;
  rotate_rows(&s.matrix[p * s.n], &s.matrix[q * s.n], s.n, cosine, sine);
  for (std::size_t k = 0; k < s.n; ++k) rotate_rows(&s.matrix[k * s.n + p], &s.matrix[k * s.n + q], 1, cosine, sine);
  rotate_rows(&s.vectors[p * s.n], &s.vectors[q * s.n], s.n, cosine, sine);
}

// Cyclic sweeps until what is off the diagonal is too little to move a basis that is rounded to four bits anyway.
Spectrum diagonalize(std::vector<double> matrix, std::size_t n) {
  Spectrum s{.matrix = std::move(matrix), .vectors = std::vector<double>(n * n), .n = n};
  double total = 0.0;
  for (std::size_t i = 0; i < n; ++i) {
    s.vectors[i * n + i] = 1.0;
    total += s.matrix[i * n + i];
  }
  const double negligible = 1e-5 * total / static_cast<double>(n);
  bool rotated = true;
  for (int sweep = 0; rotated && sweep < kMaxSweeps; ++sweep) {
    rotated = false;
    for (std::size_t p = 0; p + 1 < n; ++p) {
      for (std::size_t q = p + 1; q < n; ++q) {
        if (std::abs(s.matrix[p * n + q]) <= negligible) continue;
        rotate(s, p, q);
        rotated = true;
      }
    }
  }
  return s;
}

// analysis = (D D^T)^-1 D for directions D [rank][width]: Gauss-Jordan without pivoting, since D D^T is close to diagonal.
std::vector<float> analysis_of(std::span<const std::int8_t> directions, std::size_t rank, std::size_t width) {
  std::vector<double> gram(rank * rank);
  std::vector<double> out(directions.begin(), directions.end());
  for (std::size_t i = 0; i < rank; ++i) {
    for (std::size_t j = 0; j < rank; ++j) {
      int sum = 0;
      for (std::size_t k = 0; k < width; ++k) sum += directions[i * width + k] * directions[j * width + k];
      gram[i * rank + j] = sum;
    }
  }
  for (std::size_t i = 0; i < rank; ++i) {
    const double pivot = gram[i * rank + i];
    for (std::size_t k = 0; k < rank; ++k) gram[i * rank + k] /= pivot;
    for (std::size_t k = 0; k < width; ++k) out[i * width + k] /= pivot;
    for (std::size_t r = 0; r < rank; ++r) {
      const double factor = r == i ? 0.0 : gram[r * rank + i];
      if (factor == 0.0) continue;
      for (std::size_t k = 0; k < rank; ++k) gram[r * rank + k] -= factor * gram[i * rank + k];
      for (std::size_t k = 0; k < width; ++k) out[r * width + k] -= factor * out[i * width + k];
    }
  }
  return {out.begin(), out.end()};
}

}  // namespace

float basis_scale(std::size_t width) {
  return 4.0F * std::sqrt(static_cast<float>(width));
}

Basis fit_basis(std::span<const float> rows, std::size_t width, float step) {
  const Spectrum spectrum = diagonalize(covariance(rows, width), width);
  const auto variance = [&](std::size_t i) { return spectrum.matrix[i * width + i]; };
  std::vector<std::size_t> order(width);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return variance(a) > variance(b); });
  const double least = kKeptDeviation * kKeptDeviation * static_cast<double>(step) * step;
  Basis out;
  for (const std::size_t i : order) {
    if (!(variance(i) > least)) break;
    for (std::size_t k = 0; k < width; ++k) {
      out.directions.push_back(
          static_cast<std::int8_t>(std::nearbyint(spectrum.vectors[i * width + k] * basis_scale(width))));
    }
    ++out.rank;
  }
  out.analysis = analysis_of(out.directions, out.rank, width);
  for (float& value : out.analysis) value *= basis_scale(width);
  return out;
}

Basis axes(std::size_t width) {
  Basis out{
      .directions = std::vector<std::int8_t>(width * width), .analysis = std::vector<float>(width * width), .rank = width};
  for (std::size_t i = 0; i < width; ++i) {
    out.directions[i * width + i] = 1;
    out.analysis[i * width + i] = 1.0F;
  }
  return out;
}

void analyse(const Basis& basis, std::span<const float> rows, std::size_t width, float step,
             std::span<std::int16_t> coefficients) {
  const std::size_t n = rows.size() / width;
  std::vector<float> columns(rows.size());  // [width][n], so that the inner loop below runs over rows and no sum is split
  for (std::size_t t = 0; t < n; ++t) {
    for (std::size_t k = 0; k < width; ++k) columns[k * n + t] = rows[t * width + k];
  }
  std::vector<float> sums(n);
  for (std::size_t i = 0; i < basis.rank; ++i) {
    std::ranges::fill(sums, 0.0F);
    for (std::size_t k = 0; k < width; ++k) {
      const float weight = basis.analysis[i * width + k];
      for (std::size_t t = 0; t < n; ++t) sums[t] += weight * columns[k * n + t];
    }
    for (std::size_t t = 0; t < n; ++t) {
      const float rounded = std::nearbyint(std::clamp(sums[t] / step, -32767.0F, 32767.0F));
      coefficients[i * n + t] = static_cast<std::int16_t>(rounded);
    }
  }
}

}  // namespace celslm
