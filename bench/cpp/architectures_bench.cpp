// One model beside libllama, as one line of JSON: {"nmse", "pack_exact", "by_layer"}.
//
//   nmse        of the logits behind each token of a sequence that is prefilled as a context and decoded behind it, with f32
//               KV in both programs
//   pack_exact  the context's KV, through encoded f16 blocks layer by layer, is the same bits as before
//   by_layer    with each layer computed as soon as that layer of the KV has arrived, the same logits follow
//
//   build/release/bench/celslm_bench_architectures --model M.gguf --context 90 --decode 40
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "bench/cpp/next_token.h"
#include "bench/cpp/support.h"
#include "kv/codec/codec.h"
#include "kv/pack/layer_state.h"
#include "model/engine/prefill.h"

namespace celslm {
namespace {

struct Options : ProgramOptions {
  int context = 90;
  int decode = 40;
};

using Kv = std::shared_ptr<KvSegment>;

class Proof {
 public:
  Proof(Engine& engine, const Options& options) : engine_(engine), options_(options), config_(engine.model().config()) {
    std::mt19937 random(1);
    std::uniform_int_distribution<Token> any(0, config_.n_vocab - 1);
    for (int i = 0; i < options.context + options.decode; ++i) tokens_.push_back(any(random));
  }

  Result<double> error_beside_libllama() const {
    const int n = options_.context + options_.decode;
    CELSLM_TRY(const auto peer, llama(options_.model, {.n_threads = options_.threads, .n_context = n, .exact = true}));
    CELSLM_CHECK_OK(peer->start(n));
    CELSLM_TRY(const std::vector<float> want, peer->append(tokens_, options_.decode));
    CELSLM_TRY(const Kv context, prefilled(KvType::kF32, {}));
    CELSLM_TRY(const Kv own, KvSegment::create(config_, KvType::kF32, options_.context, options_.decode));
    double error = 0.0;
    double power = 0.0;
    for (int i = 0; i < options_.decode; ++i) {
      const SequenceChunk chunk{.context = context, .own = own, .own_length = i, .n_tokens = 1};
      CELSLM_TRY(const auto got, engine_.forward(suffix().subspan(static_cast<std::size_t>(i), 1), {&chunk, 1}));
      const float* expected = want.data() + static_cast<std::size_t>(i) * got.size();
      for (std::size_t j = 0; j < got.size(); ++j) {
        error += (double{got[j]} - expected[j]) * (double{got[j]} - expected[j]);
        power += double{expected[j]} * expected[j];
      }
    }
    return error / power;
  }

  // Computes the context's KV, and the same from what its blocks hold.
  Status send() {
    CELSLM_TRY(arrived_, KvSegment::create(config_, KvType::kF16, 0, options_.context));
    Status sent;
    CELSLM_TRY(computed_, prefilled(KvType::kF16, [&](int layer, int first_row, auto k, auto v) {
                 if (sent) sent = send_rows(layer, first_row, k, v);
               }));
    arrived_->set_length(options_.context);
    return sent;
  }

  bool is_exact() const {
    const std::size_t bytes = row_bytes(KvType::kF16, config_.head_dim) * static_cast<std::size_t>(config_.n_kv_heads) *
                              static_cast<std::size_t>(options_.context);
    for (int layer = 0; layer < config_.n_layers; ++layer) {
      if (!std::ranges::equal(std::as_const(*computed_).state(layer), std::as_const(*arrived_).state(layer))) return false;
      if (!computed_->has_rows(layer)) continue;
      const KvView a = computed_->view(layer);
      const KvView b = arrived_->view(layer);
      if (std::memcmp(a.k, b.k, bytes) != 0 || std::memcmp(a.v, b.v, bytes) != 0) return false;
    }
    return true;
  }

  Result<bool> goes_on_alike() const {
    CELSLM_TRY(const auto want, logits_by_layer(computed_));
    CELSLM_TRY(const auto got, logits_by_layer(arrived_));
    return got == want;
  }

 private:
  std::span<const Token> suffix() const { return std::span(tokens_).subspan(static_cast<std::size_t>(options_.context)); }

  Result<Kv> prefilled(KvType type, const ContextPrefill::Tap& tap) const {
    CELSLM_TRY(Kv out, KvSegment::create(config_, type, 0, options_.context));
    const auto tokens = std::span(tokens_).first(static_cast<std::size_t>(options_.context));
    CELSLM_TRY(auto prefill, ContextPrefill::start(engine_, tokens, out));
    while (!prefill.finished()) CELSLM_CHECK_OK(prefill.advance(tap));
    return out;
  }

  Status send_rows(int layer, int first_row, std::span<const float> k, std::span<const float> v) const {
    if (config_.state_values(layer) > 0)
      return Engine::import_state(engine_.model(), *arrived_, layer, options_.context, through_bytes(k));
    const auto n = static_cast<int>(k.size()) / config_.kv_width();
    CELSLM_TRY(const auto sent_k, through_block(BlockKind::kKey, n, k));
    CELSLM_TRY(const auto sent_v, through_block(BlockKind::kValue, n, v));
    return Engine::import_rows(engine_.model(), *arrived_, layer, first_row, n, sent_k, sent_v);
  }

  // As a block of a pack holds a state.
  static std::vector<float> through_bytes(std::span<const float> state) {
    const Bytes bytes = encode_layer_state(state);
    std::vector<float> out(state.size());
    std::memcpy(out.data(), bytes.data(), bytes.size());
    return out;
  }

  Result<std::vector<float>> through_block(BlockKind kind, int n, std::span<const float> values) const {
    CELSLM_TRY(const Codec* codec, find_codec(CodecId::kF16));
    const BlockShape shape{.kind = kind, .n_tokens = n, .n_kv_heads = config_.n_kv_heads, .head_dim = config_.head_dim};
    CELSLM_TRY(const Bytes bytes, codec->encode(shape, values));
    std::vector<float> out(values.size());
    CELSLM_CHECK_OK(codec->decode(shape, bytes, out));
    return out;
  }

  Result<std::vector<float>> logits_by_layer(const Kv& context) const {
    const auto n = options_.decode;
    CELSLM_TRY(const Kv own, KvSegment::create(config_, KvType::kF16, options_.context, n));
    const SequenceChunk chunk{.context = context, .own = own, .n_tokens = n};
    CELSLM_TRY(Hidden hidden, engine_.embed(suffix()));
    for (int layer = 0; layer < config_.n_layers; ++layer)
      CELSLM_CHECK_OK(engine_.run_layers(layer, layer + 1, {&chunk, 1}, hidden));
    const std::vector<int> last = {n - 1};
    return engine_.logits(hidden, last).transform([](auto values) {
      return std::vector<float>(values.begin(), values.end());
    });
  }

  Engine& engine_;
  const Options& options_;
  const ModelConfig& config_;
  std::vector<Token> tokens_;
  Kv computed_;
  Kv arrived_;
};

Status run(const Options& options) {
  CELSLM_TRY(const auto model, Model::load(options.model));
  CELSLM_TRY(const auto engine, Engine::create(model, {.n_threads = options.threads}));
  Proof proof(*engine, options);
  CELSLM_TRY(const double nmse, proof.error_beside_libllama());
  CELSLM_CHECK_OK(proof.send());
  const bool exact = proof.is_exact();
  CELSLM_TRY(const bool by_layer, proof.goes_on_alike());
  const auto text = [](bool value) { return value ? "true" : "false"; };
  std::printf("{\"nmse\": %.3g, \"pack_exact\": %s, \"by_layer\": %s}\n", nmse, text(exact), text(by_layer));
  return {};
}

}  // namespace
}  // namespace celslm

int main(int argc, char** argv) {
  celslm::Options options;
  CLI::App app("A model's logits beside libllama's, and its KV through a pack's blocks");
  celslm::add_program_options(app, options);
  app.add_option("--context", options.context, "tokens")->check(CLI::Range(1, 1 << 20));
  app.add_option("--decode", options.decode, "tokens behind it")->check(CLI::Range(1, 1 << 20));
  CLI11_PARSE(app, argc, argv);
  return celslm::exit_code("celslm_bench_architectures", celslm::run(options));
}
