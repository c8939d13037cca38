#include "tests/support/random_model.h"

#include <fmt/format.h>
#include <ggml-cpp.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <initializer_list>
#include <random>
#include <stdexcept>
#include <tuple>
#include <vector>

namespace celslm::testing_support {
namespace {

namespace fs = std::filesystem;

// GPT-2's mapping of bytes to printable characters, in UTF-8.
std::string spelled(int byte) {
  static const auto kTable = [] {
    std::array<int, 256> table{};
    int next = 256;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      table[static_cast<std::size_t>(b)] = printable ? b : next++;
    }
    return table;
  }();
  const int c = kTable[static_cast<std::size_t>(byte)];
  if (c < 128) return {static_cast<char>(c)};
  return {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
}

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<std::int32_t> types;
  std::vector<std::string> merges;
};

Vocabulary make_vocabulary(const RandomModel& model) {
  Vocabulary v;
  for (int b = 0; b < 256; ++b) v.tokens.push_back(spelled(b));
  for (const auto& [a, b] :
       {std::pair{"t", "h"}, {"th", "e"}, {"Ġ", "a"}, {"i", "n"}, {"e", "r"}, {"Ġ", "the"}, {"in", "g"}}) {
    v.tokens.push_back(std::string(a) + b);
    v.merges.push_back(fmt::format("{} {}", a, b));
  }
  for (int i = 0; i < model.n_filler; ++i) v.tokens.push_back(fmt::format("<filler{}>", i));
  v.types.assign(v.tokens.size(), 1);  // normal
  for (const std::string& control : model.control_words) {
    v.tokens.push_back(control);
    v.types.push_back(3);  // control
  }
  return v;
}

class Writer {
 public:
  Writer(const RandomModel& spec, const Vocabulary& vocabulary)
      : m_(spec),
        v_(vocabulary),
        head_dim_(spec.head_dim == 0 ? spec.n_embd / spec.n_heads : spec.head_dim),
        random_(spec.seed) {
    gguf_.reset(gguf_init_empty());
    tensors_.reset(ggml_init({.mem_size = std::size_t{512} << 20, .mem_buffer = nullptr, .no_alloc = false}));
  }

  void run(const fs::path& path) {
    write_shape();
    write_rope();
    for (const RandomModelKey& of : m_.keys) std::visit([&](auto value) { set(of.name.c_str(), value); }, of.value);
    write_tokenizer();
    write_tensors();
    if (m_.edit) m_.edit(gguf_.get());
    if (!gguf_write_to_file(gguf_.get(), path.c_str(), false)) throw std::runtime_error("cannot write " + path.string());
  }

 private:
  std::string key(const char* name) const { return m_.architecture + "." + name; }
  void set(const char* name, int value) {
    gguf_set_val_u32(gguf_.get(), key(name).c_str(), static_cast<std::uint32_t>(value));
  }
  void set(const char* name, bool value) { gguf_set_val_bool(gguf_.get(), key(name).c_str(), value); }
  void set(const char* name, float value) { gguf_set_val_f32(gguf_.get(), key(name).c_str(), value); }

  void write_shape() {
    gguf_set_val_str(gguf_.get(), "general.architecture", m_.architecture.c_str());
    gguf_set_val_str(gguf_.get(), "general.name", "random");
    set("context_length", m_.n_ctx);
    set("embedding_length", m_.n_embd);
    set("block_count", m_.n_layers);
    set("feed_forward_length", m_.n_ff);
    if (has_experts()) {
      set("expert_count", m_.n_experts);
      set("expert_used_count", m_.n_experts_used);
      set("expert_feed_forward_length", m_.n_ff);
    }
    set("attention.head_count", m_.n_heads);
    if (m_.architecture == "lfm2") {
      write_short_convs();
    } else {
      set("attention.head_count_kv", m_.n_kv_heads);
    }
    if (m_.architecture == "qwen35") write_delta_nets();
    set("attention.layer_norm_rms_epsilon", 1e-5F);
    if (m_.head_dim != 0) {
      set("attention.key_length", m_.head_dim);
      set("attention.value_length", m_.head_dim);
    }
    set("rope.dimension_count", rope_dimensions());
    if (m_.architecture == "granite") set("logit_scale", 4.0F);  // required
  }

  bool is_recurrent(int layer) const { return is_one_of({"lfm2", "qwen35"}) && (layer + 1) % m_.attention_every != 0; }

  void write_delta_nets() {
    set("full_attention_interval", m_.attention_every);
    set("ssm.conv_kernel", m_.conv_tokens);
    set("ssm.inner_size", m_.n_value_heads * m_.state_head_dim);
    set("ssm.state_size", m_.state_head_dim);
    set("ssm.time_step_rank", m_.n_value_heads);
    set("ssm.group_count", m_.n_key_heads);
    const int pairs = rope_dimensions() / 2;  // which take turns among three dimensions
    const std::array<std::int32_t, 4> sections = {(pairs + 2) / 3, (pairs + 1) / 3, pairs / 3, 0};
    gguf_set_arr_data(gguf_.get(), key("rope.dimension_sections").c_str(), GGUF_TYPE_INT32, sections.data(),
                      sections.size());
  }

  void write_short_convs() {
    std::vector<std::int32_t> kv_heads;
    for (int i = 0; i < m_.n_layers; ++i) kv_heads.push_back(is_recurrent(i) ? 0 : m_.n_kv_heads);
    gguf_set_arr_data(gguf_.get(), key("attention.head_count_kv").c_str(), GGUF_TYPE_INT32, kv_heads.data(),
                      kv_heads.size());
    set("shortconv.l_cache", m_.conv_tokens);
  }

  void write_rope() {
    set("rope.freq_base", m_.rope_base);
    if (!m_.rope_scaling.empty()) gguf_set_val_str(gguf_.get(), key("rope.scaling.type").c_str(), m_.rope_scaling.c_str());
    if (m_.rope_factor != 0.0F) set("rope.scaling.factor", m_.rope_factor);
    if (m_.rope_original_context != 0) set("rope.scaling.original_context_length", m_.rope_original_context);
    if (m_.yarn_attn_factor != 0.0F) set("rope.scaling.attn_factor", m_.yarn_attn_factor);
  }

  void write_strings(const char* name, const std::vector<std::string>& values) {
    std::vector<const char*> raw;
    for (const std::string& s : values) raw.push_back(s.c_str());
    gguf_set_arr_str(gguf_.get(), name, raw.data(), raw.size());
  }

  void write_tokenizer() {
    const auto end = static_cast<std::uint32_t>(v_.tokens.size() - 1);
    gguf_set_val_str(gguf_.get(), "tokenizer.ggml.model", "gpt2");
    gguf_set_val_str(gguf_.get(), "tokenizer.ggml.pre", "gpt-2");
    write_strings("tokenizer.ggml.tokens", v_.tokens);
    write_strings("tokenizer.ggml.merges", v_.merges);
    gguf_set_arr_data(gguf_.get(), "tokenizer.ggml.token_type", GGUF_TYPE_INT32, v_.types.data(), v_.types.size());
    gguf_set_val_u32(gguf_.get(), "tokenizer.ggml.eos_token_id", end);
    gguf_set_val_u32(gguf_.get(), "tokenizer.ggml.bos_token_id", end);
    gguf_set_val_bool(gguf_.get(), "tokenizer.ggml.add_bos_token", m_.add_bos);
    if (!m_.chat_template.empty()) gguf_set_val_str(gguf_.get(), "tokenizer.chat_template", m_.chat_template.c_str());
  }

  std::vector<float> normal(std::size_t n, float mean, float deviation) {
    std::normal_distribution<float> distribution(mean, deviation);
    std::vector<float> out(n);
    for (float& x : out) x = distribution(random_);
    return out;
  }

  void add(const std::string& name, ggml_tensor* t, const std::vector<float>& values) {
    ggml_set_name(t, name.c_str());
    ggml_quantize_chunk(t->type, values.data(), t->data, 0, ggml_nrows(t), t->ne[0], importance(t->ne[0]).data());
    gguf_add_tensor(gguf_.get(), t);
  }

  // Some quantization types require an importance matrix: all columns are equally important.
  static std::vector<float> importance(std::int64_t n) { return std::vector<float>(static_cast<std::size_t>(n), 1.0F); }

  void matrix(const std::string& name, int n_in, int n_out, float deviation) {
    if (name == m_.missing_tensor) return;
    if (name == m_.misshapen_tensor) ++n_out;
    ggml_tensor* t = ggml_new_tensor_2d(tensors_.get(), m_.type, n_in, n_out);
    add(name, t, normal(static_cast<std::size_t>(n_in) * static_cast<std::size_t>(n_out), 0.0F, deviation));
  }

  void vector(const std::string& name, int n, float mean, float deviation) {
    if (name == m_.missing_tensor) return;
    if (name == m_.misshapen_tensor) ++n;
    add(name, ggml_new_tensor_1d(tensors_.get(), GGML_TYPE_F32, n), normal(static_cast<std::size_t>(n), mean, deviation));
  }

  void projection(const std::string& name, int n_in, int n_out, bool bias, float deviation = 0.5F) {
    matrix(name + ".weight", n_in, n_out, 1.0F / std::sqrt(static_cast<float>(n_in)));
    if (bias) vector(name + ".bias", n_out, 0.0F, deviation);
  }

  void write_tensors() {
    const auto n_vocab = static_cast<int>(v_.tokens.size());
    matrix("token_embd.weight", m_.n_embd, n_vocab, 1.0F);
    vector(m_.architecture == "lfm2" ? "token_embd_norm.weight" : "output_norm.weight", m_.n_embd, 1.0F, 0.1F);
    if (!m_.tied) projection("output", m_.n_embd, n_vocab, false);
    if (m_.frequency_factors) write_factors();
    for (int i = 0; i < m_.n_layers; ++i) write_layer(fmt::format("blk.{}.", i), is_recurrent(i));
    if (!m_.extra_tensor.empty()) vector(m_.extra_tensor, m_.n_embd, 0.0F, 1.0F);
  }

  int rope_dimensions() const { return m_.rope_dimensions == 0 ? head_dim_ : m_.rope_dimensions; }

  void write_factors() {
    const int n = rope_dimensions() / 2;
    if (m_.architecture != "phi3") return vector("rope_freqs.weight", n, 3.0F, 0.5F);
    vector("rope_factors_long.weight", n, 5.0F, 0.5F);
    vector("rope_factors_short.weight", n, 1.2F, 0.1F);
  }

  bool is_one_of(std::initializer_list<const char*> names) const {
    return std::ranges::any_of(names, [&](const char* name) { return m_.architecture == name; });
  }

  void write_layer(const std::string& p, bool recurrent) {
    const bool only_post_norms = m_.architecture == "exaone4";
    const bool post_norms = only_post_norms || m_.architecture == "gemma3";
    const bool gpt_oss = m_.architecture == "gpt-oss";
    if (!only_post_norms) vector(p + "attn_norm.weight", m_.n_embd, 1.0F, 0.1F);
    if (recurrent && m_.architecture == "qwen35") {
      write_delta_net(p);
    } else if (recurrent) {
      write_short_conv(p);
    } else {
      write_attention(p, gpt_oss);
    }
    const bool late_ffn_norm = is_one_of({"gpt-oss", "qwen35"});  // under the name of a norm behind attention
    if (post_norms || late_ffn_norm) vector(p + "post_attention_norm.weight", m_.n_embd, 1.0F, 0.1F);
    if (!only_post_norms && !late_ffn_norm) vector(p + "ffn_norm.weight", m_.n_embd, 1.0F, 0.1F);
    if (has_experts()) {
      write_experts(p, gpt_oss);
      return;
    }
    if (m_.architecture == "phi3") {
      projection(p + "ffn_up", m_.n_embd, 2 * m_.n_ff, false);
    } else {
      projection(p + "ffn_gate", m_.n_embd, m_.n_ff, false);
      projection(p + "ffn_up", m_.n_embd, m_.n_ff, false);
    }
    projection(p + "ffn_down", m_.n_ff, m_.n_embd, false);
    if (post_norms) vector(p + "post_ffw_norm.weight", m_.n_embd, 1.0F, 0.1F);
  }

  void write_attention(const std::string& p, bool gpt_oss) {
    const int q_width = m_.n_heads * head_dim_;
    write_projections(p, q_width, m_.n_kv_heads * head_dim_);
    if (is_one_of({"qwen3", "gemma3", "hunyuan-dense", "exaone4", "qwen3moe", "lfm2", "qwen35"})) {
      vector(p + "attn_q_norm.weight", head_dim_, 1.0F, 0.1F);
      vector(p + "attn_k_norm.weight", head_dim_, 1.0F, 0.1F);
    }
    if (gpt_oss) vector(p + "attn_sinks.weight", m_.n_heads, 0.0F, 1.0F);
    projection(p + "attn_output", q_width, m_.n_embd, gpt_oss);
  }

  void write_short_conv(const std::string& p) {
    projection(p + "shortconv.in_proj", m_.n_embd, 3 * m_.n_embd, false);
    add(p + "shortconv.conv.weight", ggml_new_tensor_2d(tensors_.get(), GGML_TYPE_F32, m_.conv_tokens, m_.n_embd),
        normal(static_cast<std::size_t>(m_.conv_tokens * m_.n_embd), 0.0F, 0.5F));
    projection(p + "shortconv.out_proj", m_.n_embd, m_.n_embd, false);
  }

  void write_delta_net(const std::string& p) {
    const int key_width = m_.n_key_heads * m_.state_head_dim;
    const int value_width = m_.n_value_heads * m_.state_head_dim;
    const int channels = 2 * key_width + value_width;
    projection(p + "attn_qkv", m_.n_embd, channels, false);
    projection(p + "attn_gate", m_.n_embd, value_width, false);
    add(p + "ssm_conv1d.weight", ggml_new_tensor_2d(tensors_.get(), GGML_TYPE_F32, m_.conv_tokens, channels),
        normal(static_cast<std::size_t>(m_.conv_tokens * channels), 0.0F, 0.5F));
    vector(p + "ssm_dt.bias", m_.n_value_heads, 0.0F, 0.5F);
    vector(p + "ssm_a", m_.n_value_heads, -0.3F, 0.1F);
    projection(p + "ssm_alpha", m_.n_embd, m_.n_value_heads, false);
    projection(p + "ssm_beta", m_.n_embd, m_.n_value_heads, false);
    vector(p + "ssm_norm.weight", m_.state_head_dim, 1.0F, 0.1F);
    projection(p + "ssm_out", value_width, m_.n_embd, false);
  }

  bool has_experts() const { return is_one_of({"qwen3moe", "gpt-oss"}); }

  void write_experts(const std::string& p, bool bias) {
    router(p + "ffn_gate_inp.weight", m_.n_embd, m_.n_experts);
    if (bias) vector(p + "ffn_gate_inp.bias", m_.n_experts, 0.0F, 0.5F);
    for (const auto& [name, n_in, n_out] : {std::tuple("ffn_gate_exps", m_.n_embd, m_.n_ff),
                                            {"ffn_up_exps", m_.n_embd, m_.n_ff},
                                            {"ffn_down_exps", m_.n_ff, m_.n_embd}}) {
      const auto n = static_cast<std::size_t>(n_in) * static_cast<std::size_t>(n_out * m_.n_experts);
      add(p + name + ".weight", ggml_new_tensor_3d(tensors_.get(), m_.type, n_in, n_out, m_.n_experts),
          normal(n, 0.0F, 1.0F / std::sqrt(static_cast<float>(n_in))));
      if (!bias) continue;
      add(p + name + ".bias", ggml_new_tensor_2d(tensors_.get(), GGML_TYPE_F32, n_out, m_.n_experts),
          normal(static_cast<std::size_t>(n_out * m_.n_experts), 0.0F, 0.5F));
    }
  }

  // f32 in every file: it decides too much.
  void router(const std::string& name, int n_in, int n_out) {
    add(name, ggml_new_tensor_2d(tensors_.get(), GGML_TYPE_F32, n_in, n_out),
        normal(static_cast<std::size_t>(n_in) * static_cast<std::size_t>(n_out), 0.0F, 1.0F));
  }

  void write_projections(const std::string& p, int q_width, int kv_width) {
    const bool bias = m_.qkv_bias || is_one_of({"qwen2", "gpt-oss"});
    if (m_.architecture == "phi3" && !m_.separate_projections) {
      projection(p + "attn_qkv", m_.n_embd, q_width + 2 * kv_width, bias);
      return;
    }
    const bool gated = m_.architecture == "qwen35";
    projection(p + "attn_q", m_.n_embd, gated ? 2 * q_width : q_width, bias);
    projection(p + "attn_k", m_.n_embd, kv_width, bias, m_.key_bias);
    projection(p + "attn_v", m_.n_embd, kv_width, bias);
  }

  const RandomModel& m_;
  const Vocabulary& v_;
  const int head_dim_;
  std::mt19937_64 random_;
  gguf_context_ptr gguf_;
  ggml_context_ptr tensors_;
};

}  // namespace

void write_random_model(const fs::path& path, const RandomModel& model) {
  const Vocabulary vocabulary = make_vocabulary(model);
  Writer(model, vocabulary).run(path);
}

namespace {

// Reorders the tensor along `dimension` in stretches, one for each KV head.
void permute_heads(ggml_tensor* t, int dimension, const std::vector<int>& order) {
  const auto n = static_cast<std::int64_t>(order.size());
  const std::int64_t outer = dimension == 0 ? t->ne[1] : 1;
  const std::size_t stretch = static_cast<std::size_t>(dimension == 0 ? t->ne[0] : t->ne[0] * t->ne[1]) / order.size();
  auto* data = static_cast<float*>(t->data);
  for (std::int64_t row = 0; row < outer; ++row) {
    float* first = data + row * t->ne[0];
    const std::vector<float> old(first, first + n * static_cast<std::int64_t>(stretch));
    for (std::size_t i = 0; i < order.size(); ++i) {
      std::copy_n(old.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(order[i]) * stretch), stretch,
                  first + i * stretch);
    }
  }
}

}  // namespace

void write_permuted_model(const fs::path& from, const fs::path& to, const std::vector<int>& order) {
  ggml_context* tensors = nullptr;
  const gguf_context_ptr gguf(gguf_init_from_file(from.c_str(), {.no_alloc = false, .ctx = &tensors}));
  const ggml_context_ptr owner(tensors);
  if (!gguf) throw std::runtime_error("cannot read " + from.string());
  const gguf_context_ptr out(gguf_init_empty());
  gguf_set_kv(out.get(), gguf.get());
  for (ggml_tensor* t = ggml_get_first_tensor(tensors); t != nullptr; t = ggml_get_next_tensor(tensors, t)) {
    const std::string_view name = t->name;
    if (gguf_find_tensor(gguf.get(), t->name) < 0) continue;  // the tensor that contains all data
    const bool bias = name.ends_with(".bias");
    if (name.contains("attn_output.")) permute_heads(t, 0, order);
    for (const char* part : {"attn_q.", "attn_k.", "attn_v."}) {
      if (name.contains(part)) permute_heads(t, bias ? 0 : 1, order);
    }
    gguf_add_tensor(out.get(), t);
  }
  if (!gguf_write_to_file(out.get(), to.c_str(), false)) throw std::runtime_error("cannot write " + to.string());
}

std::vector<fs::path> split_model(const fs::path& from, const fs::path& stem, int n) {
  ggml_context* tensors = nullptr;
  const gguf_context_ptr gguf(gguf_init_from_file(from.c_str(), {.no_alloc = false, .ctx = &tensors}));
  const ggml_context_ptr owner(tensors);
  if (!gguf) throw std::runtime_error("cannot read " + from.string());
  const std::int64_t total = gguf_get_n_tensors(gguf.get());
  std::vector<fs::path> out;
  for (int number = 0; number < n; ++number) {
    const gguf_context_ptr part(gguf_init_empty());
    if (number == 0) gguf_set_kv(part.get(), gguf.get());
    gguf_set_val_u16(part.get(), "split.no", static_cast<std::uint16_t>(number));
    gguf_set_val_u16(part.get(), "split.count", static_cast<std::uint16_t>(n));
    gguf_set_val_i32(part.get(), "split.tensors.count", static_cast<std::int32_t>(total));
    for (std::int64_t i = total * std::max(number - 1, 0) / (n - 1); i < total * number / (n - 1); ++i) {
      gguf_add_tensor(part.get(), ggml_get_tensor(tensors, gguf_get_tensor_name(gguf.get(), i)));
    }
    out.emplace_back(fmt::format("{}-{:05}-of-{:05}.gguf", stem.string(), number + 1, n));
    if (!gguf_write_to_file(part.get(), out.back().c_str(), false)) throw std::runtime_error("cannot write a part");
  }
  return out;
}

}  // namespace celslm::testing_support
