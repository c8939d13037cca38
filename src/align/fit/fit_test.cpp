#include "align/fit/fit.h"

#include <gmock/gmock.h>

#include "align/fit/test_support.h"
#include "align/map/apply.h"
#include "core/file.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing_support::fit_between;
using testing_support::RandomModel;
using testing_support::some_documents;
using testing_support::TemporaryFolder;
using testing_support::TestModel;
using testing_support::write_permuted_model;
using testing_support::write_random_model;

constexpr double kNoPenalty = 1e-9;
const FitOptions kExact{.select = {.lambda = kNoPenalty}, .precision = MapPrecision::kF32};

class FitTest : public testing::Test {
 protected:
  std::filesystem::path random_model(const std::string& name, const RandomModel& model) {
    write_random_model(folder_ / name, model);
    return folder_ / name;
  }

  // Largest difference between mapped and native values on an unseen text, relative to the largest native value.
  static double worst_error(const KvMap& map, TestModel& from, TestModel& to) {
    const Document text = some_documents(1, 99).front();
    const auto tokens = tokens_of(to.model->text(), text, 200).value();
    const ExactKv x = compute_kv(*from.engine, tokens).value();
    const ExactKv y = compute_kv(*to.engine, tokens).value();
    std::vector<int> pairs(tokens.size());
    std::iota(pairs.begin(), pairs.end(), 0);
    double error = 0.0;
    double largest = 0.0;
    for (int layer = 0; layer < map.target.n_layers; ++layer) {
      for (const BlockKind kind : {BlockKind::kKey, BlockKind::kValue}) {
        const auto mapped = map_plane(map, layer, kind, x.planes, pairs);
        const auto& real = (kind == BlockKind::kKey ? y.planes.k : y.planes.v)[static_cast<std::size_t>(layer)];
        for (std::size_t i = 0; i < real.size(); ++i) {
          error = std::max(error, static_cast<double>(std::abs(mapped[i] - real[i])));
          largest = std::max(largest, static_cast<double>(std::abs(real[i])));
        }
      }
    }
    return error / largest;
  }

  TemporaryFolder folder_;
};

TEST_F(FitTest, MapsAModelToItselfUpToRounding) {
  TestModel side(random_model("a.gguf", {.n_layers = 3}));
  TestModel again(folder_ / "a.gguf");
  const KvMap map = fit_between(side, again, some_documents(60), kExact).value();
  for (int layer = 0; layer < 3; ++layer) {
    EXPECT_EQ(map.layers[static_cast<std::size_t>(layer)].v.sources, std::vector{layer});
    EXPECT_GT(map.layers[static_cast<std::size_t>(layer)].k.held_out_r2, 0.999999);
  }
  EXPECT_LT(worst_error(map, side, again), 1e-3);
}

TEST_F(FitTest, RecoversAPermutationOfHeads) {
  TestModel original(random_model("a.gguf", {.n_layers = 2, .n_heads = 8, .n_kv_heads = 4}));
  write_permuted_model(folder_ / "a.gguf", folder_ / "b.gguf", {2, 0, 3, 1});
  TestModel copy(folder_ / "b.gguf");
  const KvMap map = fit_between(original, copy, some_documents(60), kExact).value();
  EXPECT_FALSE(map.layers[1].v.same_head);
  EXPECT_LT(worst_error(map, original, copy), 1e-3);
}

TEST_F(FitTest, PrefersSameHeadMapsIfTheyAreAsGood) {
  TestModel side(random_model("a.gguf", {}));
  TestModel again(folder_ / "a.gguf");
  const KvMap map = fit_between(side, again, some_documents(40), kExact).value();
  EXPECT_TRUE(map.layers[1].k.same_head);
  EXPECT_LT(worst_error(map, side, again), 1e-3);
}

TEST_F(FitTest, RunsBetweenModelsOfDifferentDepthHeadsAndSizes) {
  TestModel large(random_model("l.gguf", {.n_layers = 4, .n_embd = 96, .n_heads = 3, .n_kv_heads = 3, .head_dim = 32}));
  TestModel small(random_model(
      "s.gguf", {.architecture = "qwen2", .n_layers = 2, .n_embd = 64, .n_heads = 4, .n_kv_heads = 2, .seed = 5}));
  FitOptions options{.select = {.max_sources = 2, .rank = 8}, .precision = MapPrecision::kF16};
  const KvMap map = fit_between(large, small, some_documents(30), options).value();
  EXPECT_EQ(map.layers.size(), 2U);
  EXPECT_EQ(map.layers[0].k.blocks.front().rank, 8);
  // Layer 0 has no context yet: V is a function of the token alone in both models.
  EXPECT_GT(map.layers[0].v.held_out_r2, 0.5);
}

TEST_F(FitTest, ResumesAfterAnInterruptionToTheSameMap) {
  TestModel large(random_model("l.gguf", {.n_layers = 3}));
  TestModel small(random_model("s.gguf", {.seed = 2}));
  const auto documents = some_documents(20);
  CollectOptions options{.source_layers = index_range(large.model->config().n_layers),
                         .checkpoint = folder_ / "partial",
                         .checkpoint_every = 7};
  const CalibrationSums uninterrupted =
      collect(*large.engine, *small.engine, documents, {.source_layers = options.source_layers}).value();
  struct Stop {};
  options.progress = [](int done, int, std::uint64_t) {
    if (done == 9) throw Stop();  // like a crash of the process
  };
  EXPECT_THROW((void)collect(*large.engine, *small.engine, documents, options), Stop);
  int first = 0;
  options.progress = [&](int done, int, std::uint64_t) { first = first == 0 ? done : first; };
  const CalibrationSums resumed = collect(*large.engine, *small.engine, documents, options).value();
  EXPECT_EQ(first, 8);
  const auto map = [&](const CalibrationSums& sums) {
    const KvMap fitted =
        fit_map(large.model->fingerprint(), small.model->fingerprint(), sums, options.source_layers, documents, {}).value();
    return encode_map(fitted).value();
  };
  EXPECT_EQ(map(uninterrupted), map(resumed));
}

TEST_F(FitTest, IgnoresACheckpointOfOtherTexts) {
  TestModel side(random_model("a.gguf", {}));
  CollectOptions options{
      .source_layers = index_range(side.model->config().n_layers), .checkpoint = folder_ / "partial", .checkpoint_every = 5};
  ASSERT_TRUE(collect(*side.engine, *side.engine, some_documents(20), options).has_value());
  int first = 0;
  options.progress = [&](int done, int, std::uint64_t) { first = first == 0 ? done : first; };
  ASSERT_TRUE(collect(*side.engine, *side.engine, some_documents(20, 3), options).has_value());
  EXPECT_EQ(first, 1);
}

TEST_F(FitTest, RejectsTextsThatLeaveNothingToHoldOut) {
  TestModel side(random_model("a.gguf", {}));
  const auto sums =
      collect(*side.engine, *side.engine, some_documents(1), {.source_layers = index_range(side.model->config().n_layers)});
  ASSERT_FALSE(sums.has_value());
  EXPECT_THAT(sums.error().message, HasSubstr("both sides need at least one"));
}

TEST_F(FitTest, RefusesToBeJudgedOnItsCalibrationTexts) {
  const auto documents = some_documents(5);
  const KvMap map{.calibration = hashes_of(documents)};
  EXPECT_TRUE(check_no_overlap(map, some_documents(5, 7)).has_value());
  const Status overlap = check_no_overlap(map, std::span(documents).first(2));
  ASSERT_FALSE(overlap.has_value());
  EXPECT_THAT(overlap.error().message, HasSubstr("2 of 2 documents"));
}

TEST(DocumentsTest, TextsAreSplitAtEmptyLinesAndContextsKeepTheirQuestions) {
  const TemporaryFolder folder;
  const std::string text = "One.\nStill one.\n\n\n  Two.\n\nOne.\nStill one.\n";
  const std::string worlds =
      R"({"worlds": [{"context": "Facts.", "questions": [{"question": "Q?", "answer": "A", "steps": 2}]}]})";
  ASSERT_TRUE(write_file_atomically(folder / "a.txt", as_bytes(text)).has_value());
  ASSERT_TRUE(write_file_atomically(folder / "w.json", as_bytes(worlds)).has_value());
  const auto documents = read_documents({(folder / "a.txt").string(), (folder / "w.json").string()}).value();
  ASSERT_EQ(documents.size(), 3U);
  EXPECT_EQ(documents[1].text, "Two.");
  EXPECT_TRUE(documents[2].is_context);
  EXPECT_EQ(documents[2].questions.front().steps, 2);
}

}  // namespace
}  // namespace celslm
