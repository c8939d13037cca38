#include "model/recurrent/convolution.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace celslm {
namespace {

std::size_t at(int row, int width) {
  return static_cast<std::size_t>(row) * static_cast<std::size_t>(width);
}

const float* row_of(const ConvolutionArgs& args, int token) {
  return args.in + at(token, args.kind == ConvolutionKind::kGated ? 3 * args.n_channels : args.n_channels);
}

// Calls with(i, value of channel i) for what of a token enters the convolution.
template <typename With>
void for_values(const ConvolutionArgs& args, int token, int first, int last, const With& with) {
  const float* row = row_of(args, token);
  if (args.kind == ConvolutionKind::kSilu) {
    for (int i = first; i < last; ++i) with(i, row[i]);
    return;
  }
  const float* values = row + at(2, args.n_channels);
  for (int i = first; i < last; ++i) with(i, row[i] * values[i]);
}

// Adds the part of token `from`, which is before the first where it is negative, to the sums of another token.
void add_token(const ConvolutionArgs& args, int from, int weight, float* sums, int first, int last) {
  const float* weights = args.weights + weight;
  const auto add = [&](int i, float value) { sums[i] += weights[at(i, args.span)] * value; };
  if (from >= 0) {
    for_values(args, from, first, last, add);
  } else if (args.before != nullptr) {
    const float* row = args.before + at(args.span - 1 + from, args.n_channels);
    for (int i = first; i < last; ++i) add(i, row[i]);
  }
}

// Rows of the state in order, so that one that moves forward is read before it is replaced.
void keep_last(const ConvolutionArgs& args, int first, int last) {
  const int n_kept = args.span - 1;
  for (int kept = 0; kept < n_kept; ++kept) {
    const int from = args.n_tokens - n_kept + kept;
    float* to = args.after + at(kept, args.n_channels);
    if (from >= 0) {
      for_values(args, from, first, last, [to](int i, float value) { to[i] = value; });
    } else if (args.before == nullptr) {
      std::fill(to + first, to + last, 0.0F);
    } else {
      const float* old = args.before + at(n_kept + from, args.n_channels);
      std::copy(old + first, old + last, to + first);
    }
  }
}

void finish(const ConvolutionArgs& args, int token, float* sums, int first, int last) {
  if (args.kind == ConvolutionKind::kSilu) {
    for (int i = first; i < last; ++i) sums[i] /= 1.0F + std::exp(-sums[i]);
    return;
  }
  const float* gates = row_of(args, token) + args.n_channels;
  for (int i = first; i < last; ++i) sums[i] *= gates[i];
}

}  // namespace

void convolve(const ConvolutionArgs& args, int first, int last) {
  for (int token = 0; token < args.n_tokens; ++token) {
    float* sums = args.out + at(token, args.n_channels);
    std::fill(sums + first, sums + last, 0.0F);
    for (int j = 0; j < args.span; ++j) add_token(args, token - args.span + 1 + j, j, sums, first, last);
    finish(args, token, sums, first, last);
  }
  keep_last(args, first, last);
}

}  // namespace celslm
