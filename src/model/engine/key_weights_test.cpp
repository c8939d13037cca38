#include "model/engine/key_weights.h"

#include <fmt/format.h>
#include <ggml-cpp.h>
#include <gguf.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/random_model.h"

namespace celslm {
namespace {

using testing_support::RandomModel;
using testing_support::TemporaryFolder;
using testing_support::write_random_model;

// A file's f32 tensors.
class Tensors {
 public:
  explicit Tensors(const std::filesystem::path& path) {
    ggml_context* context = nullptr;
    gguf_.reset(gguf_init_from_file(path.c_str(), {.no_alloc = false, .ctx = &context}));
    context_.reset(context);
  }
  // Zeros where there is no such tensor.
  double at(const std::string& name, std::size_t i) const {
    const ggml_tensor* t = ggml_get_tensor(context_.get(), name.c_str());
    return t == nullptr ? 0.0 : static_cast<const float*>(t->data)[i];
  }

 private:
  gguf_context_ptr gguf_;
  ggml_context_ptr context_;
};

// The mean square of query coordinate `d` over the query heads of KV head `head`, from the definition.
double mean_square(const Tensors& file, const RandomModel& m, int layer, int head, int d) {
  const int group = m.n_heads / m.n_kv_heads;
  const int head_dim = m.n_embd / m.n_heads;
  const std::string p = fmt::format("blk.{}.", layer);
  double sum = 0.0;
  for (int g = 0; g < group; ++g) {
    const auto row = static_cast<std::size_t>((head * group + g) * head_dim + d);
    const auto width = static_cast<std::size_t>(m.n_embd);
    for (std::size_t k = 0; k < width; ++k)
      sum += std::pow(file.at(p + "attn_q.weight", row * width + k) * file.at(p + "attn_norm.weight", k), 2);
    sum += std::pow(file.at(p + "attn_q.bias", row), 2);
  }
  return sum / group;
}

void expect_definition(const RandomModel& m, const std::function<int(int d, int head_dim)>& partner) {
  const TemporaryFolder folder;
  write_random_model(folder / "m.gguf", m);
  const Tensors file(folder / "m.gguf");
  const auto model = Model::load(folder / "m.gguf").value();
  const int head_dim = m.n_embd / m.n_heads;
  for (int layer = 0; layer < m.n_layers; ++layer) {
    const auto weights = key_weights(*model, layer);
    ASSERT_EQ(weights.size(), static_cast<std::size_t>(m.n_kv_heads * head_dim));
    for (int head = 0; head < m.n_kv_heads; ++head) {
      for (int d = 0; d < head_dim; ++d) {
        const double both = mean_square(file, m, layer, head, d) + mean_square(file, m, layer, head, partner(d, head_dim));
        const float got = weights[static_cast<std::size_t>(head * head_dim + d)];
        EXPECT_NEAR(got, std::sqrt(both / 2.0), 1e-4 * got) << layer << " " << head << " " << d;
      }
    }
  }
}

TEST(KeyWeightsTest, AreTheSizeOfTheQueriesOfLlamaWhosePairsAreNeighbours) {
  expect_definition({.architecture = "llama"}, [](int d, int) { return d ^ 1; });
}

TEST(KeyWeightsTest, AreTheSizeOfTheQueriesOfQwen2WithItsBias) {
  expect_definition({.architecture = "qwen2"}, [](int d, int n) { return (d + n / 2) % n; });
}

TEST(KeyWeightsTest, OfNormedQueriesAreTheNorms) {
  const TemporaryFolder folder;
  write_random_model(folder / "m.gguf", {.architecture = "qwen3"});
  const Tensors file(folder / "m.gguf");
  const auto weights = key_weights(*Model::load(folder / "m.gguf").value(), 1);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double a = file.at("blk.1.attn_q_norm.weight", i % 8);
    const double b = file.at("blk.1.attn_q_norm.weight", i % 8 + 8);
    EXPECT_NEAR(weights[i], std::sqrt((a * a + b * b) / 2.0), 1e-5) << i;
  }
}

TEST(KeyWeightsTest, DoNotDependOnTheFormInWhichWeightsAreHeld) {
  const TemporaryFolder folder;
  for (const ggml_type type : {GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0}) {
    write_random_model(folder / "m.gguf", {.architecture = "qwen2", .type = type});
    const auto repacked = key_weights(*Model::load(folder / "m.gguf", {.repack = true}).value(), 0);
    EXPECT_EQ(repacked, key_weights(*Model::load(folder / "m.gguf", {.repack = false}).value(), 0)) << ggml_type_name(type);
    EXPECT_GT(repacked[0], 0.0F);
  }
}

}  // namespace
}  // namespace celslm
