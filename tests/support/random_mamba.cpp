#include "tests/support/random_mamba.h"

#include <fmt/format.h>
#include <ggml-cpp.h>
#include <gguf.h>

#include <cmath>
#include <random>
#include <stdexcept>
#include <string>

#include "tests/support/random_model.h"

namespace celslm::testing_support {
namespace {

constexpr int kLayers = 2;
constexpr int kEmbd = 64;
constexpr int kInner = 2 * kEmbd;
constexpr int kState = 8;
constexpr int kConv = 4;
constexpr int kTimeRank = 4;

class MambaWriter {
 public:
  explicit MambaWriter(std::uint64_t seed) : random_(seed), out_(gguf_init_empty()) {
    tensors_.reset(ggml_init({.mem_size = std::size_t{64} << 20, .mem_buffer = nullptr, .no_alloc = false}));
  }

  // Everything but the architecture's own keys and tensors comes from a model of another one.
  void run(const gguf_context* like, int n_vocab, const std::filesystem::path& path) {
    gguf_set_kv(out_.get(), like);
    write_shape();
    add("token_embd.weight", 0.0F, 1.0F, kEmbd, n_vocab);
    add("output_norm.weight", 1.0F, 0.1F, kEmbd);
    for (int layer = 0; layer < kLayers; ++layer) write_layer(fmt::format("blk.{}.", layer));
    if (!gguf_write_to_file(out_.get(), path.c_str(), false)) throw std::runtime_error("cannot write " + path.string());
  }

 private:
  void set(const char* name, int value) {
    gguf_set_val_u32(out_.get(), fmt::format("mamba.{}", name).c_str(), static_cast<std::uint32_t>(value));
  }

  void write_shape() {
    gguf_set_val_str(out_.get(), "general.architecture", "mamba");
    set("context_length", 2048);
    set("embedding_length", kEmbd);
    set("feed_forward_length", 0);
    set("attention.head_count", 0);
    set("block_count", kLayers);
    set("ssm.conv_kernel", kConv);
    set("ssm.inner_size", kInner);
    set("ssm.state_size", kState);
    set("ssm.time_step_rank", kTimeRank);
    gguf_set_val_f32(out_.get(), "mamba.attention.layer_norm_rms_epsilon", 1e-5F);
  }

  void add(const std::string& name, float mean, float deviation, int columns, int rows = 0) {
    ggml_tensor* t = rows == 0 ? ggml_new_tensor_1d(tensors_.get(), GGML_TYPE_F32, columns)
                               : ggml_new_tensor_2d(tensors_.get(), GGML_TYPE_F32, columns, rows);
    std::normal_distribution<float> distribution(mean, deviation);
    auto* values = static_cast<float*>(t->data);
    for (std::int64_t i = 0; i < ggml_nelements(t); ++i) values[i] = distribution(random_);
    ggml_set_name(t, name.c_str());
    gguf_add_tensor(out_.get(), t);
  }

  void matrix(const std::string& name, int columns, int rows) {
    add(name, 0.0F, 1.0F / std::sqrt(static_cast<float>(columns)), columns, rows);
  }

  void write_layer(const std::string& p) {
    add(p + "attn_norm.weight", 1.0F, 0.1F, kEmbd);
    matrix(p + "ssm_in.weight", kEmbd, 2 * kInner);
    matrix(p + "ssm_conv1d.weight", kConv, kInner);
    add(p + "ssm_conv1d.bias", 0.0F, 0.1F, kInner);
    matrix(p + "ssm_x.weight", kInner, kTimeRank + 2 * kState);
    matrix(p + "ssm_dt.weight", kTimeRank, kInner);
    add(p + "ssm_dt.bias", 0.0F, 0.5F, kInner);
    add(p + "ssm_a", -1.0F, 0.1F, kState, kInner);
    add(p + "ssm_d", 1.0F, 0.1F, kInner);
    matrix(p + "ssm_out.weight", kInner, kEmbd);
  }

  std::mt19937_64 random_;
  const gguf_context_ptr out_;
  ggml_context_ptr tensors_;
};

}  // namespace

void write_random_mamba(const std::filesystem::path& path, std::uint64_t seed) {
  const TemporaryFolder folder;
  write_random_model(folder / "like.gguf", {});
  const gguf_context_ptr like(gguf_init_from_file((folder / "like.gguf").c_str(), {.no_alloc = true, .ctx = nullptr}));
  if (!like) throw std::runtime_error("cannot read a model that was just written");
  const auto n_vocab = gguf_get_arr_n(like.get(), gguf_find_key(like.get(), "tokenizer.ggml.tokens"));
  MambaWriter(seed).run(like.get(), static_cast<int>(n_vocab), path);
}

}  // namespace celslm::testing_support
