// The convolution of recurrent layers: a value of a token is made of the same channel of a few tokens up to itself.
#pragma once

namespace celslm {

// What happens to values before and behind it.
enum class ConvolutionKind {
  kGated,  // as in LFM2: of a row [gate before | gate behind | value], each of n_channels
  kSilu,   // as in a gated delta net: of a row of n_channels, and SiLU behind it
};

// Tokens of one sequence, in order.
struct ConvolutionArgs {
  ConvolutionKind kind = ConvolutionKind::kGated;
  const float* in = nullptr;  // [n_tokens][row], the row of the kind
  float* out = nullptr;       // [n_tokens][n_channels]
  int n_tokens = 0;
  int n_channels = 0;
  int span = 0;                    // tokens that a value is made of, its own the last; at least 2
  const float* weights = nullptr;  // [n_channels][span]
  const float* before = nullptr;   // [span - 1][n_channels]: what of the tokens before these is needed; null: there are none
  float* after = nullptr;          // the same for the tokens that follow; may be `before`
};

// Channels [first, last). Arithmetic of a token depends on nothing but the values it is made of: in one call or token by
// token, the bits are the same. Threads may share a call by channels.
void convolve(const ConvolutionArgs& args, int first, int last);

}  // namespace celslm
