// Kernels of recurrent layers against their definitions in double precision, and against themselves: however tokens are cut
// into calls and heads or channels among threads, the bits are the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "model/recurrent/convolution.h"
#include "model/recurrent/delta_net.h"

namespace celslm {
namespace {

constexpr int kTokens = 11;

std::vector<float> random_values(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(n);
  for (float& value : out) value = normal(random);
  return out;
}

std::vector<float> random_values(int n, unsigned seed) {
  return random_values(static_cast<std::size_t>(n), seed);
}

double logistic(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

// --- convolution ------------------------------------------------------------------------------------------------------

class ConvolutionTest : public testing::TestWithParam<ConvolutionKind> {
 protected:
  static constexpr int kChannels = 13;
  static constexpr int kSpan = 4;

  int row() const { return GetParam() == ConvolutionKind::kGated ? 3 * kChannels : kChannels; }

  struct Outcome {
    std::vector<float> out;
    std::vector<float> state;
    bool operator==(const Outcome&) const = default;
  };
  // With calls of so many tokens each, and channels in so many parts.
  Outcome run(const std::vector<int>& calls, int parts, bool with_state) const {
    Outcome of{.out = std::vector<float>(kTokens * kChannels), .state = state_};
    const float* before = with_state ? of.state.data() : nullptr;
    int token = 0;
    for (const int n : calls) {
      const ConvolutionArgs args{.kind = GetParam(),
                                 .in = in_.data() + token * row(),
                                 .out = of.out.data() + token * kChannels,
                                 .n_tokens = n,
                                 .n_channels = kChannels,
                                 .span = kSpan,
                                 .weights = weights_.data(),
                                 .before = before,
                                 .after = of.state.data()};
      for (int part = 0; part < parts; ++part) convolve(args, kChannels * part / parts, kChannels * (part + 1) / parts);
      before = of.state.data();
      token += n;
    }
    return of;
  }
  double entering(int token, int channel, bool with_state) const {
    if (token < 0) return with_state ? state_[static_cast<std::size_t>((kSpan - 1 + token) * kChannels + channel)] : 0.0;
    const float* values = in_.data() + token * row();
    if (GetParam() == ConvolutionKind::kSilu) return values[channel];
    return double{values[channel]} * values[2 * kChannels + channel];
  }
  double expected(int token, int channel, bool with_state) const {
    double sum = 0;
    for (int j = 0; j < kSpan; ++j)
      sum += weights_[static_cast<std::size_t>(channel * kSpan + j)] * entering(token - kSpan + 1 + j, channel, with_state);
    if (GetParam() == ConvolutionKind::kSilu) return sum * logistic(sum);
    return sum * in_[static_cast<std::size_t>(token * row() + kChannels + channel)];
  }

  const std::vector<float> in_ = random_values(kTokens * row(), 1);
  const std::vector<float> weights_ = random_values(kChannels * kSpan, 2);
  const std::vector<float> state_ = random_values((kSpan - 1) * kChannels, 3);
};

INSTANTIATE_TEST_SUITE_P(Kinds, ConvolutionTest, testing::Values(ConvolutionKind::kGated, ConvolutionKind::kSilu));

TEST_P(ConvolutionTest, IsWhatItsDefinitionGives) {
  for (const bool with_state : {false, true}) {
    const Outcome got = run({kTokens}, 1, with_state);
    for (int token = 0; token < kTokens; ++token) {
      for (int channel = 0; channel < kChannels; ++channel)
        EXPECT_NEAR(got.out[static_cast<std::size_t>(token * kChannels + channel)], expected(token, channel, with_state),
                    1e-5);
    }
    for (int kept = 0; kept < kSpan - 1; ++kept)
      EXPECT_FLOAT_EQ(got.state[static_cast<std::size_t>(kept * kChannels)],
                      static_cast<float>(entering(kTokens - kSpan + 1 + kept, 0, with_state)));
  }
}

TEST_P(ConvolutionTest, IsTheSameBitsInPieces) {
  for (const bool with_state : {false, true}) {
    const Outcome one = run({kTokens}, 1, with_state);
    for (const auto& calls : {std::vector<int>(kTokens, 1), {1, 10}, {2, 2, 7}, {10, 1}}) {
      EXPECT_EQ(run(calls, 1, with_state), one);
      EXPECT_EQ(run(calls, 4, with_state), one);
    }
  }
}

// --- delta net --------------------------------------------------------------------------------------------------------

class DeltaNetTest : public testing::Test {
 protected:
  static constexpr int kKeyHeads = 2;
  static constexpr int kValueHeads = 4;
  static constexpr int kHead = 32;
  static constexpr int kRow = (2 * kKeyHeads + kValueHeads) * kHead;
  static constexpr int kOut = kValueHeads * kHead;
  static constexpr double kEpsilon = 1e-5;

  struct Outcome {
    std::vector<float> out = std::vector<float>(kTokens * kOut);
    std::vector<float> state = std::vector<float>(kValueHeads * kHead * kHead);
    bool operator==(const Outcome&) const = default;
  };
  Outcome run(const std::vector<int>& calls, int parts, bool with_state) const {
    Outcome of;
    if (with_state) of.state = state_;
    const float* before = with_state ? of.state.data() : nullptr;
    std::vector<float> scratch;
    int token = 0;
    for (const int n : calls) {
      const DeltaNetArgs args{.qkv = qkv_.data() + token * kRow,
                              .alpha = alpha_.data() + token * kValueHeads,
                              .beta = beta_.data() + token * kValueHeads,
                              .gate = gate_.data() + token * kOut,
                              .out = of.out.data() + token * kOut,
                              .n_tokens = n,
                              .n_key_heads = kKeyHeads,
                              .n_value_heads = kValueHeads,
                              .head_dim = kHead,
                              .alpha_bias = bias_.data(),
                              .decay = decay_.data(),
                              .norm = norm_.data(),
                              .epsilon = static_cast<float>(kEpsilon),
                              .before = before,
                              .after = of.state.data()};
      for (int part = 0; part < parts; ++part)
        delta_net(args, kValueHeads * part / parts, kValueHeads * (part + 1) / parts, scratch);
      before = of.state.data();
      token += n;
    }
    return of;
  }

  static std::vector<double> of_length_one(const float* values) {
    double sum = 0;
    for (int i = 0; i < kHead; ++i) sum += double{values[i]} * values[i];
    std::vector<double> out;
    for (int i = 0; i < kHead; ++i) out.push_back(values[i] / std::sqrt(sum));
    return out;
  }
  // One token of a head's matrix, [key][value], which it changes.
  std::vector<double> step(std::vector<double>& state, int token, int head) const {
    const float* row = qkv_.data() + token * kRow;
    const auto q = of_length_one(row + head % kKeyHeads * kHead);
    const auto k = of_length_one(row + (kKeyHeads + head % kKeyHeads) * kHead);
    const float* v = row + (2 * kKeyHeads + head) * kHead;
    const auto scalar = static_cast<std::size_t>(token * kValueHeads + head);
    const auto h = static_cast<std::size_t>(head);
    const double decay = std::exp(std::log1p(std::exp(double{alpha_[scalar]} + bias_[h])) * decay_[h]);
    std::vector<double> out(kHead);
    for (int j = 0; j < kHead; ++j) {
      const auto cell = [&](int i) -> double& { return state[static_cast<std::size_t>(i * kHead + j)]; };
      double known = 0;
      for (int i = 0; i < kHead; ++i) known += (cell(i) *= decay) * k[static_cast<std::size_t>(i)];
      const double change = (v[j] - known) * logistic(beta_[scalar]);
      for (int i = 0; i < kHead; ++i) {
        cell(i) += change * k[static_cast<std::size_t>(i)];
        out[static_cast<std::size_t>(j)] += cell(i) * q[static_cast<std::size_t>(i)] / std::sqrt(kHead);
      }
    }
    return out;
  }

  const std::vector<float> qkv_ = random_values(kTokens * kRow, 1);
  const std::vector<float> alpha_ = random_values(kTokens * kValueHeads, 2);
  const std::vector<float> beta_ = random_values(kTokens * kValueHeads, 3);
  const std::vector<float> gate_ = random_values(kTokens * kOut, 4);
  const std::vector<float> bias_ = random_values(kValueHeads, 5);
  const std::vector<float> decay_{-0.5F, -0.1F, -1.0F, -0.01F};
  const std::vector<float> norm_ = random_values(kHead, 6);
  const std::vector<float> state_ = random_values(kValueHeads * kHead * kHead, 7);
};

TEST_F(DeltaNetTest, IsWhatItsDefinitionGives) {
  const Outcome got = run({kTokens}, 1, true);
  for (int head = 0; head < kValueHeads; ++head) {
    const auto begin = state_.begin() + head * kHead * kHead;
    std::vector<double> state(begin, begin + kHead * kHead);
    for (int token = 0; token < kTokens; ++token) {
      const auto out = step(state, token, head);
      double squares = 0;
      for (const double value : out) squares += value * value;
      const double scale = 1.0 / std::sqrt(squares / kHead + kEpsilon);
      for (int j = 0; j < kHead; ++j) {
        const auto at = static_cast<std::size_t>(token * kOut + head * kHead + j);
        const double gate = gate_[at] * logistic(gate_[at]);
        EXPECT_NEAR(got.out[at], out[static_cast<std::size_t>(j)] * scale * norm_[static_cast<std::size_t>(j)] * gate, 1e-4);
      }
    }
    for (int i = 0; i < kHead * kHead; ++i)
      EXPECT_NEAR(got.state[static_cast<std::size_t>(head * kHead * kHead + i)], state[static_cast<std::size_t>(i)], 1e-4);
  }
}

TEST_F(DeltaNetTest, IsTheSameBitsInPieces) {
  for (const bool with_state : {false, true}) {
    const Outcome one = run({kTokens}, 1, with_state);
    for (const auto& calls : {std::vector<int>(kTokens, 1), {1, 10}, {4, 7}}) {
      EXPECT_EQ(run(calls, 1, with_state), one);
      EXPECT_EQ(run(calls, 3, with_state), one);
    }
  }
}

}  // namespace
}  // namespace celslm
