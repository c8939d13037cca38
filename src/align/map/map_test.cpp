#include <gmock/gmock.h>

#include "align/fit/test_support.h"
#include "align/map/apply.h"
#include "align/map/map_codec.h"
#include "align/texts/positions.h"
#include "core/file.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing_support::TemporaryFolder;

// Small and valid, with every optional part: 3 source heads of 2 values, 2 target heads of 3, a low-rank matrix, a network.
KvMap small_map(MapPrecision precision = MapPrecision::kF32) {
  KvMap out{.precision = precision, .lambda = 0.01};
  out.source = {.id = hash_of("large"), .tokenizer = hash_of("t"), .n_layers = 3, .n_kv_heads = 3, .head_dim = 2};
  out.target = {.id = hash_of("small"), .tokenizer = hash_of("t"), .n_layers = 1, .n_kv_heads = 2, .head_dim = 3};
  out.calibration = {hash_of("a"), hash_of("b")};
  std::ranges::sort(out.calibration);
  out.gate = judge_splits({{.split = 0, .questions = 10, .right = 10, .native_right = 10, .kl = 0.01}}, {});
  const auto values = [](std::size_t n) {
    std::vector<float> v(n);
    for (std::size_t i = 0; i < n; ++i) v[i] = static_cast<float>(i % 7) * 0.25F - 0.5F;
    return v;
  };
  PlaneMap k{.sources = {2, 0}, .bias = values(6), .held_out_r2 = 0.5};
  k.blocks.push_back({.n_in = 12, .n_out = 6, .left = values(72)});
  PlaneMap v{.sources = {1}, .bias = values(6)};
  v.blocks.push_back({.n_in = 6, .n_out = 6, .rank = 2, .left = values(12), .right = values(12)});
  v.net = ResidualNet{.inputs = {0, 2},
                      .n_hidden = 4,
                      .hidden = values(24 * 4),
                      .hidden_bias = values(4),
                      .out = values(24),
                      .out_bias = values(6),
                      .gate = values(2)};
  out.layers.push_back({std::move(k), std::move(v)});
  return out;
}

Bytes sealed(Bytes bytes) {
  const Hash256 hash = map_hash(ByteView(bytes).first(bytes.size() - kMapHashBytes));
  std::memcpy(bytes.data() + bytes.size() - kMapHashBytes, hash.bytes.data(), kMapHashBytes);
  return bytes;
}

TEST(MapTest, RoundTrips) {
  const KvMap map = small_map();
  const Bytes bytes = encode_map(map).value();
  const KvMap again = parse_map(bytes).value();
  EXPECT_EQ(encode_map(again).value(), bytes);
  EXPECT_EQ(again.gate, map.gate);
  EXPECT_EQ(again.source, map.source);
  EXPECT_EQ(again.calibration, map.calibration);
  EXPECT_TRUE(again.fused());
  EXPECT_EQ(again.layers[0].v.net->hidden, map.layers[0].v.net->hidden);
}

TEST(MapTest, ValuesAreRoundedToThePrecision) {
  for (const MapPrecision precision : {MapPrecision::kF16, MapPrecision::kQ8}) {
    const KvMap map = small_map(precision);
    const KvMap again = parse_map(encode_map(map).value()).value();
    for (std::size_t i = 0; i < 72; ++i) {
      EXPECT_NEAR(again.layers[0].k.blocks[0].left[i], map.layers[0].k.blocks[0].left[i], 0.005F);
    }
  }
}

TEST(MapTest, EveryTruncationAndEveryFlippedByteIsRejected) {
  const Bytes bytes = encode_map(small_map()).value();
  for (std::size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(parse_map(ByteView(bytes).first(n)).has_value()) << n;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    Bytes damaged = bytes;
    damaged[i] ^= std::byte{0x40};
    EXPECT_FALSE(parse_map(damaged).has_value()) << i;
  }
}

// An attacker can compute the hash, so counts that exceed the file have to be found without it.
TEST(MapTest, HostileCountsAreRejectedBeforeAnythingIsAllocated) {
  const Bytes bytes = encode_map(small_map()).value();
  constexpr std::size_t kSourceCounts = 8 + 2 + 1 + 1 + 8 + 64;
  constexpr std::size_t kCalibration = kSourceCounts + 12 + 64 + 12;
  for (const std::size_t at : {kSourceCounts, kSourceCounts + 4, kSourceCounts + 8, kCalibration}) {
    Bytes hostile = bytes;
    for (std::size_t i = 0; i < 4; ++i) hostile[at + i] = std::byte{0xFF};
    const auto map = parse_map(sealed(hostile));
    ASSERT_FALSE(map.has_value()) << at;
    EXPECT_EQ(map.error().kind, ErrorKind::kInvalid) << at;
  }
  Bytes longer = bytes;
  longer.insert(longer.end(), 3, std::byte{0});
  EXPECT_THAT(parse_map(sealed(longer)).error().message, HasSubstr("after its end"));
}

TEST(MapTest, FusingTrainedNetworksResetsTheGate) {
  KvMap map = small_map();
  const ResidualNet net = *map.layers[0].v.net;
  ByteWriter out;
  out.bytes(as_bytes("CELSLNET"));
  out.u32(1);  // version 1, and 16 bits of 0
  out.u32(1);
  ASSERT_TRUE(write_net(net, MapPrecision::kF32, out).has_value());
  out.u32(0);
  ASSERT_TRUE(fuse(out.data(), map).has_value());
  EXPECT_EQ(map.layers[0].k.net->out, net.out);
  EXPECT_FALSE(map.layers[0].v.net.has_value());
  EXPECT_EQ(map.gate.state, GateState::kNotJudged);
  EXPECT_THAT(fuse(ByteView(out.data()).first(40), map).error().message, HasSubstr("truncated inside"));
}

TEST(MapTest, KeepsItsVersionAndRefusesOthers) {
  KvMap map = small_map();
  EXPECT_EQ(parse_map(encode_map(map).value())->version, 2);
  map.version = 1;
  EXPECT_EQ(parse_map(encode_map(map).value())->version, 1);
  map.version = 3;
  EXPECT_THAT(parse_map(encode_map(map).value()).error().message, HasSubstr("map version 3 is not supported"));
}

// In version 1 K contained its bias.
TEST(MapTest, OfVersion1IsRefusedForModelsWithAKeyBias) {
  const TemporaryFolder folder;
  testing_support::write_random_model(folder / "plain.gguf", {});
  testing_support::write_random_model(folder / "biased.gguf", {.architecture = "qwen2"});
  const auto plain = Model::load(folder / "plain.gguf").value();
  const auto biased = Model::load(folder / "biased.gguf").value();
  const auto check = [](int version, const Model& source, const Model& target) {
    KvMap map = small_map();
    map.version = static_cast<std::uint16_t>(version);
    map.source = map_model(source.fingerprint());
    map.target = map_model(target.fingerprint());
    const Status status = check_models(map, source, target);
    return status ? "" : status.error().message;
  };
  EXPECT_EQ(check(1, *plain, *plain), "");
  EXPECT_EQ(check(2, *biased, *biased), "");
  EXPECT_THAT(check(1, *biased, *plain), HasSubstr("version 1, in which K contained the bias of its source model"));
  EXPECT_THAT(check(1, *plain, *biased), HasSubstr("of its target model"));
}

TEST(MapTest, ErrorsOfAFileBeginWithItsName) {
  const TemporaryFolder folder;
  ASSERT_TRUE(write_file_atomically(folder / "x.map", as_bytes("not a map, but long enough to have a hash")).has_value());
  EXPECT_THAT(read_map(folder / "x.map").error().message, HasSubstr("x.map: is not a layer map"));
}

TEST(GateTest, TheLowestSplitWithinTheLimitsPasses) {
  const std::vector<SplitMetrics> splits{{.split = 1, .questions = 100, .right = 97, .native_right = 97, .kl = 0.02},
                                         {.split = 0, .questions = 100, .right = 80, .native_right = 97, .kl = 0.01}};
  const Gate gate = judge_splits(splits, {.min_retained = 0.98, .max_kl = 0.1});
  EXPECT_EQ(gate.state, GateState::kPassed);
  EXPECT_EQ(gate.split, 1);
}

TEST(GateTest, ARefusedMapCannotBeUsedAndTheErrorReportsItsMeasurements) {
  KvMap map = small_map();
  map.gate = judge_splits({{.split = 0, .questions = 100, .right = 50, .native_right = 97, .kl = 0.5}}, {});
  const Status usable = check_gate(map);
  ASSERT_FALSE(usable.has_value());
  EXPECT_THAT(usable.error().message, HasSubstr("refused"));
  EXPECT_THAT(usable.error().message, HasSubstr("50 of 100 correct"));
}

TEST(GateTest, ANanDivergenceDoesNotPass) {
  EXPECT_EQ(judge_splits({{.split = 0, .kl = std::nan("")}}, {}).state, GateState::kRefused);
}

TEST(ApplyTest, AddsTheCorrectionOfTheNetworkScaledByHead) {
  KvMap map = small_map();
  KvPlanes source{.n_tokens = 1};
  source.k.assign(3, std::vector<float>(6, 0.5F));
  source.v.assign(3, std::vector<float>(6, -1.0F));
  const std::vector<int> pairs{0};
  const auto with = map_plane(map, 0, BlockKind::kValue, source, pairs);
  ResidualNet net = *map.layers[0].v.net;
  map.layers[0].v.net.reset();
  const auto without = map_plane(map, 0, BlockKind::kValue, source, pairs);
  for (int j = 0; j < 6; ++j) {
    double sum = net.out_bias[static_cast<std::size_t>(j)];
    for (int h = 0; h < 4; ++h) {
      double x = net.hidden_bias[static_cast<std::size_t>(h)];
      for (int i = 0; i < 24; ++i) x += (i % 12 < 6 ? 0.5 : -1.0) * net.hidden[static_cast<std::size_t>(i * 4 + h)];
      sum += x / (1.0 + std::exp(-x)) * net.out[static_cast<std::size_t>(h * 6 + j)];
    }
    const auto at = static_cast<std::size_t>(j);
    EXPECT_NEAR(with[at] - without[at], net.gate[at / 3] * sum, 1e-4) << j;
  }
}

TEST(PositionsTest, EqualTokensArePairedOneToOne) {
  const TemporaryFolder folder;
  testing_support::write_random_model(folder / "a.gguf", {});
  const auto model = Model::load(folder / "a.gguf").value();
  const auto tokens = model->text().context("the ether in the thing").value();
  const auto pairs = pair_positions(model->text(), tokens, model->text(), tokens).value();
  for (std::size_t i = 0; i < tokens.size(); ++i) EXPECT_EQ(pairs[i], static_cast<int>(i));
}

// The bytes of "the" one by one against one merged token.
TEST(PositionsTest, DifferentTokensArePairedByWhereTheyEnd) {
  const TemporaryFolder folder;
  testing_support::write_random_model(folder / "a.gguf", {});
  const auto model = Model::load(folder / "a.gguf").value();
  const Text& text = model->text();
  const std::vector<Token> bytes{'t', 'h', 'e'};
  std::vector<Token> merged = text.tokenize("the", false, false);
  ASSERT_EQ(merged.size(), 1U);
  const std::vector<Token> spelled = [&] {
    std::vector<Token> out;
    for (const Token byte : bytes)
      out.push_back(text.tokenize(std::string(1, static_cast<char>(byte)), false, false).front());
    return out;
  }();
  EXPECT_EQ(pair_positions(text, spelled, text, merged).value(), std::vector{2});
  EXPECT_EQ(pair_positions(text, merged, text, spelled).value(), (std::vector{0, 0, 0}));
  EXPECT_FALSE(pair_positions(text, text.tokenize("abc", false, false), text, merged).has_value());
}

}  // namespace
}  // namespace celslm
