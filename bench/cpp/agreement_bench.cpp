// How exact the engine is, beside libllama: raw observations as JSON, one a line, which bench/benchmarks/agreement.py
// summarises. Sequences ("documents") are windows of a text; what is judged is the second half of each, as
// llama-perplexity does.
//
//   with --reference (the same weights as f32, run by libllama), for every judged position:
//     {"document", "position", "kl_ours", "kl_peer", "kl_between"}
//       D(f32 || ours), D(f32 || libllama), D(libllama || ours), nats
//   without it, for every window:
//     {"document", "positions", "surprise"}    sum of -log p(next token) by ours
//
//   build/release/bench/celslm_bench_agreement --model M.gguf --text T.txt --windows 16 --tokens 512 [--reference F32.gguf]
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "align/judge/context_decoder.h"
#include "bench/cpp/next_token.h"
#include "bench/cpp/support.h"
#include "core/file.h"

namespace celslm {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kMaxTextBytes = 1ULL << 30;

struct Options : ProgramOptions {
  std::string text;
  std::string reference;
  int n_windows = 16;
  int n_tokens = 512;
  bool spread = false;
};

using Window = std::vector<Token>;

// As llama-perplexity cuts a text: one window after the other, the first token of each replaced by the one that begins a
// sequence, where the model has one. With `spread`, evenly over the text.
Result<std::vector<Window>> windows_of(const Text& text, const Options& options) {
  CELSLM_TRY(const Bytes bytes, read_file(options.text, kMaxTextBytes));
  std::string_view words = as_text(bytes);
  if (words.ends_with('\n')) words.remove_suffix(1);
  const std::vector<Token> tokens = text.tokenize(words, text.adds_bos(), false);
  const auto width = static_cast<std::size_t>(options.n_tokens);
  const auto count = static_cast<std::size_t>(options.n_windows);
  if (tokens.size() < count * width)
    return fail(ErrorKind::kInvalid, "{} has {} tokens; {} windows of {} need {}", options.text, tokens.size(), count, width,
                count * width);
  const std::size_t apart = options.spread ? tokens.size() / count : width;
  std::vector<Window> out;
  for (std::size_t i = 0; i < count; ++i) {
    const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(i * apart);
    out.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(width));
    if (text.adds_bos()) out.back().front() = tokens.front();
  }
  return out;
}

// The logits behind the tokens from the middle of the window on, but for the last token, which nothing follows.
Result<std::vector<float>> judged_logits(NextToken& model, const Window& window) {
  const int n = static_cast<int>(window.size()) - 1;
  CELSLM_CHECK_OK(model.start(n));
  return model.append(std::span(window).first(static_cast<std::size_t>(n)), n - static_cast<int>(window.size()) / 2);
}

std::span<const float> row(const std::vector<float>& logits, int i, int n_vocab) {
  return std::span(logits).subspan(static_cast<std::size_t>(i) * static_cast<std::size_t>(n_vocab),
                                   static_cast<std::size_t>(n_vocab));
}

void print(const Json& line) {
  std::printf("%s\n", line.dump().c_str());
}

struct Models {
  std::unique_ptr<NextToken> ours;
  std::unique_ptr<NextToken> peer;
  std::unique_ptr<NextToken> reference;
  int n_vocab = 0;
};

Status compare(const Models& models, const Window& window, int number) {
  CELSLM_TRY(const auto exact, judged_logits(*models.reference, window));
  CELSLM_TRY(const auto peer, judged_logits(*models.peer, window));
  CELSLM_TRY(const auto ours, judged_logits(*models.ours, window));
  const int n_rows = static_cast<int>(ours.size()) / models.n_vocab;
  for (int i = 0; i < n_rows; ++i) {
    const auto in_row = [&](const std::vector<float>& logits) { return row(logits, i, models.n_vocab); };
    print({{"document", number},
           {"position", static_cast<int>(window.size()) - 1 - n_rows + i},
           {"kl_ours", kl_divergence(in_row(exact), in_row(ours))},
           {"kl_peer", kl_divergence(in_row(exact), in_row(peer))},
           {"kl_between", kl_divergence(in_row(peer), in_row(ours))}});
  }
  return {};
}

Status surprise(const Models& models, const Window& window, int number) {
  CELSLM_TRY(const auto logits, judged_logits(*models.ours, window));
  const int n_rows = static_cast<int>(logits.size()) / models.n_vocab;
  double sum = 0.0;
  for (int i = 0; i < n_rows; ++i) {
    sum += negative_log_likelihood(row(logits, i, models.n_vocab),
                                   window[window.size() - static_cast<std::size_t>(n_rows - i)]);
  }
  print({{"document", number}, {"positions", n_rows}, {"surprise", sum}});
  return {};
}

Status run(const Options& options) {
  CELSLM_TRY(const auto model, Model::load(options.model));
  CELSLM_TRY(const auto engine, Engine::create(model, {.n_threads = options.threads}));
  Models models{.ours = ours(*engine), .n_vocab = model->config().n_vocab};
  CELSLM_TRY(const auto windows, windows_of(model->text(), options));
  const bool with_reference = !options.reference.empty();
  if (with_reference) {
    LlamaOptions llama_options{.n_threads = options.threads, .n_context = options.n_tokens};
    CELSLM_TRY(models.peer, llama(options.model, llama_options));
    llama_options.exact = true;
    CELSLM_TRY(models.reference, llama(options.reference, llama_options));
  }
  for (int i = 0; i < static_cast<int>(windows.size()); ++i) {
    const Window& window = windows[static_cast<std::size_t>(i)];
    CELSLM_CHECK_OK(with_reference ? compare(models, window, i) : surprise(models, window, i));
    std::fflush(stdout);
  }
  return {};
}

}  // namespace
}  // namespace celslm

int main(int argc, char** argv) {
  celslm::Options options;
  CLI::App app("Next-token distributions of our engine, of libllama, and of the same weights as f32");
  celslm::add_program_options(app, options);
  app.add_option("--text", options.text, "plain text")->required();
  app.add_option("--reference", options.reference, "the model as f32; without it: perplexity");
  app.add_option("--windows", options.n_windows, "of the text")->check(CLI::Range(1, 1 << 20));
  app.add_option("--tokens", options.n_tokens, "per window")->check(CLI::Range(4, 1 << 20));
  app.add_flag("--spread", options.spread, "windows evenly over the text instead of one after the other");
  CLI11_PARSE(app, argc, argv);
  return celslm::exit_code("celslm_bench_agreement", celslm::run(options));
}
