// Speed of a device: prefill of a context as a cloud does it, with its KV in host memory at the end, and decoding token by
// token. One line of JSON.
//
//   build/release/bench/celslm_bench_device --model M.gguf --device Vulkan0 --prefill 512 --prefill 8192 --decode 64
//
// --agree N: what the device's rounding does to answers. The CPU reads N tokens of --text behind the first half of them,
// once with KV that it computed and once with KV that the device computed, and the most likely next tokens are compared.
#include <algorithm>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "bench/cpp/support.h"
#include "core/bytes.h"
#include "core/file.h"
#include "model/device/device.h"
#include "model/engine/device_prefill.h"
#include "model/engine/prefill.h"
#include "model/numeric/logits.h"

namespace celslm {
namespace {

struct Options : DecodeOptions {
  std::string device;
  std::vector<int> prefill;
  std::string text;
  int agree = 0;  // tokens
};

std::vector<Token> random_tokens(const Model& model, int n) {
  std::mt19937 random(1);
  std::uniform_int_distribution<Token> any(0, model.config().n_vocab - 1);
  std::vector<Token> out(static_cast<std::size_t>(n));
  for (Token& token : out) token = any(random);
  return out;
}

// Seconds from the tokens to the last of their KV in host memory; copies false: it stays on the device.
Result<double> prefill(Engine& engine, std::span<const Token> tokens, KvType type, bool copies) {
  const Model& model = engine.model();
  const Stopwatch time;
  CELSLM_TRY(auto segment, KvSegment::create(model.config(), type, 0, static_cast<int>(tokens.size())));
  std::vector<Hidden> steps;
  for (std::size_t first = 0; first < tokens.size(); first += kPrefillStep) {
    CELSLM_TRY(steps.emplace_back(),
               engine.embed(tokens.subspan(first, std::min<std::size_t>(kPrefillStep, tokens.size() - first))));
  }
  CELSLM_TRY(const auto prefill, DevicePrefill::start(model, steps, std::move(segment), copies));
  const std::size_t units = steps.size() * static_cast<std::size_t>(model.config().n_layers);
  for (std::size_t i = 0; i <= units; ++i) CELSLM_CHECK_OK(prefill->advance([](int, int, auto, auto) { return Status(); }));
  return time.seconds();
}

Result<double> decode(Engine& engine, const Options& options, KvType type) {
  CELSLM_TRY(const auto own, KvSegment::create(engine.model().config(), type, 0, options.decode + 1));
  const auto tokens = random_tokens(engine.model(), options.decode + 1);
  double seconds = 0;
  for (int i = 0; i <= options.decode; ++i) {
    const SequenceChunk chunk{.own = own, .own_length = i, .n_tokens = 1};
    const Stopwatch time;
    CELSLM_CHECK_OK(
        engine.forward(std::span(tokens).subspan(static_cast<std::size_t>(i), 1), {&chunk, 1}).transform([](const auto&) {
        }));
    if (i > 0) seconds += time.seconds();  // the first one warms up
  }
  return options.decode / seconds;
}

std::shared_ptr<KvSegment> segment(const Model& model, KvType type, int first, std::size_t capacity) {
  return KvSegment::create(model.config(), type, first, static_cast<int>(capacity)).value();
}

// A context that one engine computes, as another gets it from a pack.
Result<std::shared_ptr<KvSegment>> context_by(Engine& engine, std::span<const Token> tokens, KvType type) {
  const Model& model = engine.model();
  auto out = segment(model, type, 0, tokens.size());
  CELSLM_TRY(auto prefill, ContextPrefill::start(engine, tokens, segment(model, type, 0, tokens.size())));
  Status imported;
  while (!prefill.finished() && imported) {
    CELSLM_CHECK_OK(prefill.advance([&](int layer, int row, std::span<const float> k, std::span<const float> v) {
      const auto n = static_cast<int>(k.size() / static_cast<std::size_t>(model.config().kv_width()));
      imported = Engine::import_rows(model, *out, layer, row, n, k, v);
    }));
  }
  CELSLM_CHECK_OK(imported);
  out->set_length(static_cast<int>(tokens.size()));
  return out;
}

// Logits of every token of `tokens` behind the context.
Result<std::vector<float>> read_behind(Engine& engine, const std::shared_ptr<KvSegment>& context,
                                       std::span<const Token> tokens, KvType type) {
  auto own = segment(engine.model(), type, context->next_position(), tokens.size());
  std::vector<float> out;
  int done = 0;
  for (const Token token : tokens) {
    const SequenceChunk chunk{.context = context, .own = own, .own_length = done++, .n_tokens = 1};
    CELSLM_TRY(const auto logits, engine.forward({&token, 1}, {&chunk, 1}));
    out.insert(out.end(), logits.begin(), logits.end());
  }
  return out;
}

// Where the two differ: how far the first's two best tokens are apart there, in nats.
Status print_agreement(Engine& device, const Options& options, KvType type) {
  CELSLM_TRY(const auto here, Model::load(options.model));
  CELSLM_TRY(const auto cpu, Engine::create(here, {.n_threads = options.threads}));
  CELSLM_TRY(const Bytes text, read_file(options.text, 16U << 20));
  std::vector<Token> tokens = here->text().tokenize(as_text(text), true, false);
  tokens.resize(std::min(tokens.size(), static_cast<std::size_t>(options.agree)));
  const std::span<const Token> context = std::span(tokens).first(tokens.size() / 2);
  const std::span<const Token> read = std::span(tokens).subspan(context.size());
  CELSLM_TRY(const auto of_cpu, context_by(*cpu, context, type));
  CELSLM_TRY(const auto of_device, context_by(device, context, type));
  CELSLM_TRY(const auto expected, read_behind(*cpu, of_cpu, read, type));
  CELSLM_TRY(const auto got, read_behind(*cpu, of_device, read, type));
  const std::size_t width = expected.size() / read.size();
  int differ = 0;
  float widest = 0;
  for (std::size_t i = 0; i < read.size(); ++i) {
    const auto want = std::span(expected).subspan(i * width, width);
    const std::size_t best = argmax(want);
    const std::size_t other = argmax(std::span(got).subspan(i * width, width));
    if (best == other) continue;
    ++differ;
    widest = std::max(widest, want[best] - want[other]);
  }
  std::printf(", \"agree_tokens\": %zu, \"agree_differ\": %d, \"agree_widest\": %.5f", read.size(), differ, widest);
  return {};
}

Status run(const Options& options) {
  CELSLM_TRY(const KvType type, kv_type_from(options.kv));
  const Stopwatch loading;
  CELSLM_TRY(const auto model, Model::load(options.model, {.device = options.device}));
  std::printf("{\"load_s\": %.3f", loading.seconds());
  CELSLM_TRY(const auto engine, Engine::create(model, {.n_threads = options.threads}));
  for (const int n : options.prefill) {
    const auto tokens = random_tokens(*model, n);
    CELSLM_CHECK_OK(prefill(*engine, tokens, type, true).transform([](double) {}));  // shaders, memory
    CELSLM_TRY(const double with_kv, prefill(*engine, tokens, type, true));
    CELSLM_TRY(const double alone, prefill(*engine, tokens, type, false));
    std::printf(", \"prefill_%d_s\": %.6f, \"prefill_%d_alone_s\": %.6f", n, with_kv, n, alone);
  }
  CELSLM_TRY(const double decode_tps, decode(*engine, options, type));
  std::printf(", \"decode_tps\": %.3f", decode_tps);
  if (options.agree > 0) CELSLM_CHECK_OK(print_agreement(*engine, options, type));
  std::printf("}\n");
  return {};
}

}  // namespace
}  // namespace celslm

int main(int argc, char** argv) {
  celslm::Options options;
  options.decode = 64;
  CLI::App app("Prefill and decode speed on a device");
  celslm::add_decode_options(app, options);
  app.add_option("--device", options.device, "from celslm doctor; CPU: ggml's CPU backend as a device")->required();
  app.add_option("--prefill", options.prefill, "tokens; may be given several times")->check(CLI::Range(1, 1 << 20));
  app.add_option("--agree", options.agree, "tokens of --text to compare answers on")->check(CLI::Range(2, 1 << 20));
  app.add_option("--text", options.text, "file");
  CLI11_PARSE(app, argc, argv);
  return celslm::exit_code("celslm_bench_device", celslm::run(options));
}
