#include "model/engine/graph.h"

#include <gtest/gtest.h>

#include "model/engine/node_count.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using testing_support::RandomModel;
using testing_support::TemporaryFolder;
using testing_support::write_random_model;

class GraphTest : public testing::TestWithParam<KernelPath> {
 protected:
  void load(const RandomModel& model) {
    write_random_model(folder_ / "m.gguf", model);
    auto loaded = Model::load(folder_ / "m.gguf");
    ASSERT_TRUE(loaded) << loaded.error().message;
    model_ = *loaded;
  }

  std::shared_ptr<KvSegment> segment(int first = 0) const {
    return KvSegment::create(model_->config(), KvType::kF16, first, 4).value();
  }

  // Chunks of one and two tokens; every third continues a context, the second a condensed one.
  std::vector<SequenceChunk> batch_of(int n_chunks) const {
    auto context = segment();
    context->set_length(3);
    std::vector<SequenceChunk> out;
    for (int i = 0; i < n_chunks; ++i) {
      const bool continues = i % 3 == 2;
      out.push_back({.context = continues ? context : nullptr, .own = segment(continues ? 3 : 0), .n_tokens = 1 + i % 2});
    }
    if (n_chunks == 1) return out;
    const auto condensed = KvSegment::create_condensed(model_->config(), KvType::kF16, 2, 5).value();
    out[1] = {.context = condensed, .own = segment(5), .n_tokens = 2};
    return out;
  }

  // Builds the graph and compares its nodes with the count it was made for.
  void check(PassShape shape, std::span<const SequenceChunk> batch) {
    for (const SequenceChunk& chunk : batch) shape.n_tokens += chunk.n_tokens;
    const CpuBackend* cpu = CpuBackend::get().value();
    Pass pass(model_->impl(), 1);
    pass.begin(batch, shape.first, shape.last);
    const ggml_gallocr_ptr scratch(ggml_gallocr_new(cpu->buffer_type()));
    const auto graph = Graph::build(model_->impl(), pass, shape, GetParam(), *cpu, scratch.get());
    ASSERT_TRUE(graph) << graph.error().message;
    EXPECT_EQ(static_cast<std::size_t>(ggml_graph_n_nodes((*graph)->cgraph())),
              count_nodes(model_->config(), *model_->impl().weights, shape, batch, GetParam()));
  }

  void check_all_shapes(int n_chunks) {
    const int n_layers = model_->config().n_layers;
    const auto batch = batch_of(n_chunks);
    check({.first = 0, .last = n_layers}, batch);
    check({.first = 1, .last = 2}, batch);
    check({.last = n_layers, .from_tokens = true, .n_outputs = n_chunks}, batch);
    check({.n_tokens = 5, .from_tokens = true}, {});
    check({.first = n_layers, .last = n_layers, .n_tokens = 5, .n_outputs = 5}, {});
    check({.first = n_layers, .last = n_layers, .n_tokens = 5, .n_outputs = 2}, {});
  }

  TemporaryFolder folder_;
  std::shared_ptr<const Model> model_;
};

INSTANTIATE_TEST_SUITE_P(Kernels, GraphTest, testing::Values(KernelPath::kFused, KernelPath::kPlain),
                         [](const auto& test) { return test.param == KernelPath::kFused ? "Fused" : "Plain"; });

TEST_P(GraphTest, HasAsManyNodesAsWereCountedForEveryKindOfModel) {
  const std::vector<RandomModel> models = {
      {},
      {.architecture = "qwen2"},
      {.architecture = "qwen3"},
      {.tied = true, .qkv_bias = true},
      {.n_layers = 3, .type = GGML_TYPE_Q8_0},
      {.architecture = "qwen2", .type = GGML_TYPE_F16},
      {.architecture = "gemma3",
       .n_layers = 3,
       .keys = {{"attention.sliding_window", 2},
                {"attention.sliding_window_pattern", 2},
                {"final_logit_softcapping", 5.0F}}},
      {.architecture = "phi3", .type = GGML_TYPE_Q8_0},
      {.architecture = "granite", .keys = {{"embedding_scale", 12.0F}, {"residual_scale", 0.5F}}},
      {.architecture = "hunyuan-dense"},
      {.architecture = "exaone4"},
      {.architecture = "qwen3moe", .n_experts_used = 3},
      {.architecture = "gpt-oss", .keys = {{"attention.sliding_window", 2}}}};
  for (const RandomModel& model : models) {
    load(model);
    for (const int n_chunks : {1, 2, 7}) check_all_shapes(n_chunks);
  }
}

// Where a count that is too low would end the process.
TEST_P(GraphTest, HoldsManyLayersOfManyChunks) {
  load({.architecture = "qwen3", .n_layers = 48, .n_embd = 32, .n_heads = 2, .n_kv_heads = 1, .n_ff = 32});
  check_all_shapes(40);
}

}  // namespace
}  // namespace celslm
