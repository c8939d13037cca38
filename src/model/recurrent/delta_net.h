// The gated delta net: each head keeps a matrix from keys to values, in which every token replaces, by a share, what the
// matrix had for its key.
#pragma once

#include <vector>

namespace celslm {

// Tokens of one sequence, in order; heads lie one after the other.
struct DeltaNetArgs {
  const float* qkv = nullptr;    // [n_tokens][queries: n_key_heads | keys: n_key_heads | values: n_value_heads][head_dim]
  const float* alpha = nullptr;  // [n_tokens][n_value_heads], before bias and softplus
  const float* beta = nullptr;   // [n_tokens][n_value_heads], before the sigmoid
  const float* gate = nullptr;   // [n_tokens][n_value_heads][head_dim], before SiLU
  float* out = nullptr;          // the same shape: normed and gated
  int n_tokens = 0;
  int n_key_heads = 0;
  int n_value_heads = 0;              // value head h goes with key head h % n_key_heads
  int head_dim = 0;                   // a multiple of 16
  const float* alpha_bias = nullptr;  // [n_value_heads]
  const float* decay = nullptr;       // [n_value_heads]
  const float* norm = nullptr;        // [head_dim]
  float epsilon = 0.0F;               // of all norms
  const float* before = nullptr;      // the state: [n_value_heads][key channel][value channel]; null: zeros
  float* after = nullptr;             // may be `before`
};

// Value heads [first, last). Arithmetic of a token depends on nothing but the state before it and its own values: in one
// call or token by token, the bits are the same. Threads may share a call by heads, each with scratch of its own.
void delta_net(const DeltaNetArgs& args, int first, int last, std::vector<float>& scratch);

}  // namespace celslm
