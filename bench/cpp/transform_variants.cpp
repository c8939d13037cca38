#include "bench/cpp/transform_variants.h"

#include <algorithm>
#include <cmath>

#include "kv/codec/symbols.h"
#include "kv/codec/transform.h"

namespace celslm {
namespace {

constexpr double kTableEntryBits = 44 * 8;
constexpr int kLeadTokens = 4;  // stored at 8.5 bits; their loss is neglected
constexpr double kPredictorBits = 8;

std::vector<double> means_of(const Plane& plane) {
  const std::size_t width = plane.width();
  std::vector<double> out(width);
  for (std::size_t i = kLeadTokens * width; i < plane.values.size(); ++i) out[i % width] += plane.values[i];
  for (double& mean : out) mean /= plane.n_tokens - kLeadTokens;
  return out;
}

// Appends one head's rows after the lead tokens, minus the means: [n][head_dim].
void append_rows(const Plane& plane, std::span<const double> means, int head, std::vector<float>& rows) {
  const std::size_t width = plane.width();
  const auto head_dim = static_cast<std::size_t>(plane.head_dim);
  const std::size_t first = static_cast<std::size_t>(head) * head_dim;
  for (std::size_t t = kLeadTokens; t < static_cast<std::size_t>(plane.n_tokens); ++t) {
    for (std::size_t c = first; c < first + head_dim; ++c)
      rows.push_back(static_cast<float>(plane.values[t * width + c] - means[c]));
  }
}

double typical_deviation(const Plane& plane, std::span<const double> means) {
  const std::size_t width = plane.width();
  double energy = 0.0;
  for (std::size_t i = kLeadTokens * width; i < plane.values.size(); ++i)
    energy += std::pow(plane.values[i] - means[i % width], 2);
  return std::sqrt(energy / static_cast<double>(plane.values.size() - kLeadTokens * width));
}

// The residual of a row if each number is predicted from the one before (first-order linear prediction), rounded to
// integers, so that it is lossless.
std::vector<std::int16_t> differences(std::span<const std::int16_t> row) {
  double square = 1e-9;
  double product = 0.0;
  for (std::size_t i = 1; i < row.size(); ++i) {
    square += static_cast<double>(row[i - 1]) * row[i - 1];
    product += static_cast<double>(row[i]) * row[i - 1];
  }
  const double coefficient = std::nearbyint(product / square * 128.0) / 128.0;
  std::vector<std::int16_t> out(row.begin(), row.end());
  for (std::size_t i = 1; i < row.size(); ++i)
    out[i] = static_cast<std::int16_t>(row[i] - static_cast<int>(std::nearbyint(coefficient * row[i - 1])));
  return out;
}

double energy_of(std::span<const std::int16_t> row) {
  double out = 0.0;
  for (const std::int16_t x : row) out += static_cast<double>(x) * x;
  return out;
}

}  // namespace

Plane plane_of(const ModelConfig& config, const ExactKv& exact, int layer, BlockKind kind) {
  const auto& values = (kind == BlockKind::kKey ? exact.planes.k : exact.planes.v)[static_cast<std::size_t>(layer)];
  return {kind, layer, exact.planes.n_tokens, config.n_kv_heads, config.head_dim, values};
}

Status through_transform(const TransformVariant& variant, const Plane& plane, std::span<const Plane> others, double factor,
                         std::span<float> out, double& bits) {
  const auto head_dim = static_cast<std::size_t>(plane.head_dim);
  const auto n = static_cast<std::size_t>(plane.n_tokens - kLeadTokens);
  if (plane.n_tokens <= kLeadTokens)
    return fail(ErrorKind::kInvalid, "the context has {} tokens; expected more than {}", plane.n_tokens, kLeadTokens);
  const std::vector<double> means = means_of(plane);
  const double share = plane.kind == BlockKind::kKey ? variant.step / 2.0 : variant.step * 2.0;
  const double step = share * typical_deviation(plane, means) * (variant.by_sensitivity ? factor : 1.0);
  if (step <= 0.0) return fail(ErrorKind::kInvalid, "all values of a plane are equal");

  std::ranges::copy(plane.values, out.begin());
  std::vector<RowClass> classes;
  std::vector<std::int16_t> symbols;
  ByteWriter coded;
  StreamWriter streams(coded);
  for (int head = 0; head < plane.n_kv_heads; ++head) {
    std::vector<float> rows;
    append_rows(plane, means, head, rows);
    std::vector<float> pooled;
    for (const Plane& other : others) append_rows(other, means_of(other), head, pooled);
    const Basis basis = fit_basis(variant.calibrated_basis ? pooled : rows, head_dim, static_cast<float>(step));
    if (!variant.calibrated_basis) CELSLM_CHECK_OK(streams.write(std::as_bytes(std::span(basis.directions))));
    std::vector<std::int16_t> coefficients(basis.rank * n);
    analyse(basis, rows, head_dim, static_cast<float>(step), coefficients);
    for (std::size_t i = 0; i < basis.rank; ++i) {
      const auto row = std::span<const std::int16_t>(coefficients).subspan(i * n, n);
      const std::vector<std::int16_t> less = differences(row);
      const bool is_less = variant.deltas && energy_of(less) < energy_of(row);
      const std::span<const std::int16_t> sent = is_less ? std::span<const std::int16_t>(less) : row;
      bits += variant.deltas ? kPredictorBits : 0.0;
      symbols.insert(symbols.end(), sent.begin(), sent.end());
      classes.push_back(classify(sent));
    }
    const double unit = step / basis_scale(head_dim);
    for (std::size_t t = 0; t < n; ++t) {
      for (std::size_t c = 0; c < head_dim; ++c) {
        double sum = 0.0;
        for (std::size_t i = 0; i < basis.rank; ++i)
          sum += static_cast<double>(coefficients[i * n + t]) * basis.directions[i * head_dim + c];
        const std::size_t channel = static_cast<std::size_t>(head) * head_dim + c;
        out[(t + kLeadTokens) * plane.width() + channel] = static_cast<float>(means[channel] + unit * sum);
      }
    }
  }
  CELSLM_CHECK_OK(write_rows(classes, symbols, n, streams));
  const double described = 8.0 * (5.0 + 4.0 * static_cast<double>(plane.width()) + 2.0 * plane.n_kv_heads);
  bits += kTableEntryBits + 8.5 * kLeadTokens * static_cast<double>(plane.width()) + described +
          8.0 * static_cast<double>(classes.size() + coded.take().size());
  return {};
}

}  // namespace celslm
