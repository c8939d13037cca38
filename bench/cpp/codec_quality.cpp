// Compares a model's output behind KV that went through a codec with its output behind exact KV. Prints one JSON object per
// line: the model, then raw observations, which bench/judge.py summarises:
//
//   {"model_id": ...}
//   {"document", "kv", "values", "bits", "encode_s", "decode_s"}    size of a context; times of our codecs only
//   {"document", "kv", "question", "positions", "kl", "alike", "greedy", "greedy_of", "right", "exact_right"}    one probe
//       behind it: kl and alike are sums over the positions; right, and exact_right behind exact KV: questions only
//   {"document", "kv": "noise", "question", "positions", "kl"}    with --reference, at the same positions of the same
//       tokens: D(f32 || the engine behind exact KV), or with --noise-model D(f32 || the engine with that model)
//
//   build/release/bench/celslm_bench_codec_quality --model M.gguf --text T.txt --worlds W.json
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "align/judge/context_decoder.h"
#include "align/texts/documents.h"
#include "bench/cpp/kv_treatments.h"
#include "bench/cpp/next_token.h"
#include "bench/cpp/support.h"
#include "core/file.h"
#include "model/numeric/logits.h"
#include "model/text/text.h"

namespace celslm {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kMaxTextBytes = 1ULL << 30;

struct Options : ProgramOptions {
  std::vector<std::string> texts;
  std::vector<std::string> worlds;
  std::vector<std::string> only;
  std::string reference;
  std::string noise_model;
  int context_tokens = 960;
  int windows = 16;
  bool speed_only = false;
};

// A continuation of a context.
struct Probe {
  std::vector<Token> prompt;
  std::vector<Token> forced;  // teacher-forced after the prompt; empty: the answer behind exact KV
  std::string answer;         // a correct answer contains it; empty: not a question
};

struct Case {
  bool question = false;  // false: plain text
  std::vector<Token> context;
  std::vector<Probe> probes;
};

// The output behind exact KV.
struct Reference {
  std::vector<Token> forced;  // prompt and forced tokens
  std::vector<float> logits;  // [forced.size()][n_vocab]
  std::vector<Token> answer;  // generated greedily

  std::span<const float> row(const std::vector<float>& of, std::size_t i) const {
    const std::size_t n_vocab = logits.size() / forced.size();
    return std::span(of).subspan(i * n_vocab, n_vocab);
  }
};

bool is_right(const Model& model, const Probe& probe, std::span<const Token> answer) {
  return model.text().detokenize(answer).find(probe.answer) != std::string::npos;
}

Result<Reference> compute_reference(ContextDecoder& decoder, const ExactKv& exact, const Probe& probe) {
  Reference out;
  CELSLM_TRY(out.answer, decoder.greedy(exact.segment, probe.prompt));
  out.forced = probe.prompt;
  const auto& more = probe.forced.empty() ? out.answer : probe.forced;
  out.forced.insert(out.forced.end(), more.begin(), more.end());
  CELSLM_TRY(out.logits, decoder.forced_logits(exact.segment, out.forced));
  return out;
}

Result<Json> judge(ContextDecoder& decoder, const Model& model, const TreatedKv& treated, const Probe& probe,
                   const Reference& reference) {
  CELSLM_TRY(const auto logits, decoder.forced_logits(treated.segment, reference.forced));
  double divergences = 0.0;
  int alike = 0;
  int positions = 0;
  for (std::size_t i = probe.prompt.size() - 1; i < reference.forced.size(); ++i, ++positions) {
    const auto exact = reference.row(reference.logits, i);
    const auto now = reference.row(logits, i);
    divergences += kl_divergence(exact, now);
    alike += argmax(exact) == argmax(now) ? 1 : 0;
  }
  CELSLM_TRY(const auto answer, decoder.greedy(treated.segment, probe.prompt));
  const auto same = std::ranges::mismatch(answer, reference.answer).in1 - answer.begin();
  Json out{{"positions", positions},
           {"kl", divergences},
           {"alike", alike},
           {"greedy", same},
           {"greedy_of", reference.answer.size()}};
  if (!probe.answer.empty())
    out.update({{"right", is_right(model, probe, answer)}, {"exact_right", is_right(model, probe, reference.answer)}});
  return out;
}

void print(const Json& line) {
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
}

// A case with the data that all treatments need.
struct Prepared {
  int document = 0;  // its number
  const Case* item = nullptr;
  ExactKv exact;
  std::vector<Reference> references;
  std::vector<double> harm;  // [n_layers][K, V]: divergence if only this plane is coarse
};

Result<double> mean_divergence(ContextDecoder& decoder, const Model& model, const TreatedKv& treated,
                               const Prepared& prepared) {
  double sum = 0.0;
  double positions = 0.0;
  for (std::size_t i = 0; i < prepared.references.size(); ++i) {
    CELSLM_TRY(const Json seen, judge(decoder, model, treated, prepared.item->probes[i], prepared.references[i]));
    sum += seen["kl"].get<double>();
    positions += seen["positions"].get<double>();
  }
  return positions > 0.0 ? sum / positions : 0.0;
}

Result<Prepared> prepare(Engine& engine, const Case& item, int document, bool with_harm) {
  CELSLM_TRY(auto exact, compute_kv(engine, item.context));
  Prepared out{.document = document, .item = &item, .exact = std::move(exact)};
  ContextDecoder decoder(engine);
  for (const Probe& probe : item.probes) {
    CELSLM_TRY(Reference reference, compute_reference(decoder, out.exact, probe));
    out.references.push_back(std::move(reference));
  }
  for (int layer = 0; with_harm && layer < engine.model().config().n_layers; ++layer) {
    for (const BlockKind kind : {BlockKind::kKey, BlockKind::kValue}) {
      CELSLM_TRY(const TreatedKv coarse, coarsen_plane(engine.model(), out.exact, layer, kind));
      CELSLM_TRY(const double harm, mean_divergence(decoder, engine.model(), coarse, out));
      out.harm.push_back(harm);
    }
  }
  return out;
}

// The quantization steps that minimise total harm for a given number of bits. A plane's harm grows with the square of its
// step, and its bits fall with the logarithm, so the minimum is where all planes do equal harm: steps are proportional to
// 1 / sqrt(harm at equal steps).
std::vector<double> step_factors(const std::vector<Prepared>& all, std::size_t except) {
  constexpr double kFarthest = 4.0;
  const std::size_t n = all[except].harm.size();
  std::vector<double> out(n, 1.0);
  double mean_log = 0.0;
  for (std::size_t plane = 0; plane < n; ++plane) {
    double harm = 1e-9;
    for (std::size_t i = 0; i < all.size(); ++i) harm += i == except ? 0.0 : all[i].harm[plane];
    out[plane] = 1.0 / std::sqrt(harm);
    mean_log += std::log(out[plane]) / static_cast<double>(n);
  }
  for (double& factor : out) factor = std::clamp(factor / std::exp(mean_log), 1.0 / kFarthest, kFarthest);
  return out;
}

// What the model's rounding alone does to the distributions that codecs are judged by.
class Noise {
 public:
  // `f32` has the same weights unrounded. rounded: runs them rounded; null: the references of a Prepared do.
  Noise(std::unique_ptr<NextToken> f32, std::unique_ptr<NextToken> rounded)
      : f32_(std::move(f32)), rounded_(std::move(rounded)) {}

  Status measure(const Prepared& prepared) {
    std::size_t longest = 0;
    for (const Reference& reference : prepared.references) longest = std::max(longest, reference.forced.size());
    CELSLM_CHECK_OK(start(*f32_, prepared.item->context, longest));
    if (rounded_) CELSLM_CHECK_OK(start(*rounded_, prepared.item->context, longest));
    for (std::size_t i = 0; i < prepared.references.size(); ++i) {
      CELSLM_TRY(Json seen, compare(prepared.item->context.size(), prepared.item->probes[i], prepared.references[i]));
      seen.update({{"document", prepared.document}, {"kv", "noise"}, {"question", prepared.item->question}});
      print(seen);
    }
    return {};
  }

 private:
  static Status start(NextToken& model, std::span<const Token> context, std::size_t more) {
    CELSLM_CHECK_OK(model.start(static_cast<int>(context.size() + more)));
    return model.append(context, 1).transform([](const auto&) {});
  }

  static Result<std::vector<float>> forced_logits(NextToken& model, std::size_t n_context, std::span<const Token> forced) {
    model.truncate(static_cast<int>(n_context));
    return model.append(forced, static_cast<int>(forced.size()));
  }

  Result<Json> compare(std::size_t n_context, const Probe& probe, const Reference& reference) {
    CELSLM_TRY(const auto exact, forced_logits(*f32_, n_context, reference.forced));
    std::vector<float> rounded;
    if (rounded_) {
      CELSLM_TRY(rounded, forced_logits(*rounded_, n_context, reference.forced));
    }
    const std::vector<float>& now = rounded_ ? rounded : reference.logits;
    double divergences = 0.0;
    const std::size_t first = probe.prompt.size() - 1;
    for (std::size_t i = first; i < reference.forced.size(); ++i)
      divergences += kl_divergence(reference.row(exact, i), reference.row(now, i));
    return Json{{"positions", reference.forced.size() - first}, {"kl", divergences}};
  }

  std::unique_ptr<NextToken> f32_;
  std::unique_ptr<NextToken> rounded_;
};

// Calibrated treatments are calibrated on all cases except the one that is measured.
Status measure(Engine& engine, const std::vector<Prepared>& all, std::size_t number,
               const std::vector<Treatment>& treatments) {
  const Prepared& prepared = all[number];
  Subject subject{.exact = prepared.exact, .step_factors = step_factors(all, number)};
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (i != number) subject.others.push_back(&all[i].exact);
  }
  ContextDecoder decoder(engine);
  double values = 0.0;
  for (const auto& plane : prepared.exact.planes.k) values += 2.0 * static_cast<double>(plane.size());
  for (const Treatment& treatment : treatments) {
    CELSLM_TRY(const TreatedKv treated, treatment.apply(engine.model(), subject));
    Json size{{"document", prepared.document}, {"kv", treatment.name}, {"values", values}, {"bits", treated.bits}};
    if (treatment.ours) size.update({{"encode_s", treated.encode_s}, {"decode_s", treated.decode_s}});
    print(size);
    for (std::size_t i = 0; i < prepared.references.size(); ++i) {
      CELSLM_TRY(Json seen, judge(decoder, engine.model(), treated, prepared.item->probes[i], prepared.references[i]));
      seen.update({{"document", prepared.document}, {"kv", treatment.name}, {"question", prepared.item->question}});
      print(seen);
    }
  }
  return {};
}

// Evenly spaced windows of the text, each followed by the text's own next tokens as forced tokens.
Status add_text(const Model& model, const Options& options, const std::string& path, std::vector<Case>& cases) {
  CELSLM_TRY(const Bytes text, read_file(path, kMaxTextBytes));
  const std::vector<Token> tokens = model.text().tokenize(as_text(text), model.text().adds_bos(), false);
  const auto context = static_cast<std::size_t>(options.context_tokens);
  const std::size_t window = context + 1 + kContinuationTokens;
  if (tokens.size() < window)
    return fail(ErrorKind::kInvalid, "{} has {} tokens; a window needs {}", path, tokens.size(), window);
  for (int i = 0; i < options.windows; ++i) {
    const std::size_t last = tokens.size() - window;
    const std::size_t first =
        options.windows == 1 ? 0 : last * static_cast<std::size_t>(i) / static_cast<std::size_t>(options.windows - 1);
    const auto at = [&](std::size_t from, std::size_t n) {
      const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(first + from);
      return std::vector<Token>(begin, begin + static_cast<std::ptrdiff_t>(n));
    };
    cases.push_back({false,
                     at(0, context),
                     {{at(context, 1), options.speed_only ? at(context, 1) : at(context + 1, kContinuationTokens), ""}}});
  }
  return {};
}

Status add_worlds(const Model& model, const std::string& path, std::vector<Case>& cases) {
  CELSLM_TRY(const auto documents, read_documents(std::filesystem::path(path)));
  for (const Document& document : documents) {
    if (!document.is_context)
      return fail(ErrorKind::kInvalid, "{} is not a file of questions: expected JSON as in models/worlds", path);
    CELSLM_TRY(auto context, model.text().context(document.text));
    Case item{true, std::move(context), {}};
    for (const Question& question : document.questions) {
      CELSLM_TRY(auto prompt, tokens_of(model.text(), document, question));
      item.probes.push_back({std::move(prompt), {}, question.answer});
    }
    cases.push_back(std::move(item));
  }
  return {};
}

std::vector<Treatment> chosen_treatments(const Options& options) {
  std::vector<Treatment> out = all_treatments();
  std::erase_if(out, [&](const Treatment& treatment) {
    return (treatment.calibrated &&
            options.texts.size() * static_cast<std::size_t>(options.windows) + options.worlds.size() < 2) ||
           (options.speed_only && !treatment.ours) ||
           (!options.only.empty() && !std::ranges::contains(options.only, treatment.name));
  });
  return out;
}

Result<std::vector<Case>> cases_of(const Model& model, const Options& options) {
  std::vector<Case> out;
  for (const std::string& path : options.texts) CELSLM_CHECK_OK(add_text(model, options, path, out));
  for (const std::string& path : options.worlds) CELSLM_CHECK_OK(add_worlds(model, path, out));
  if (options.speed_only) {
    for (Case& item : out) item.probes.clear();
  }
  return out;
}

// An engine and its model that runs for as long as this lives.
struct Loaded {
  std::shared_ptr<const Model> model;
  std::unique_ptr<Engine> engine;
};
Result<Loaded> load(const std::string& path, int n_threads) {
  CELSLM_TRY(auto model, Model::load(path));
  CELSLM_TRY(auto engine, Engine::create(model, {.n_threads = n_threads}));
  return Loaded{std::move(model), std::move(engine)};
}

// The most tokens of a context with a probe and its answer.
int longest_sequence(const std::vector<Case>& cases) {
  std::size_t out = 0;
  for (const Case& item : cases) {
    for (const Probe& probe : item.probes)
      out = std::max(out, item.context.size() + probe.prompt.size() + kContinuationTokens);
  }
  return static_cast<int>(out);
}

Status run(const Options& options) {
  CELSLM_TRY(const Loaded loaded, load(options.model, options.threads));
  CELSLM_TRY(const auto cases, cases_of(*loaded.model, options));
  Loaded rounded;
  if (!options.noise_model.empty()) {
    CELSLM_TRY(rounded, load(options.noise_model, options.threads));
  }
  std::optional<Noise> noise;
  if (!options.reference.empty()) {
    const LlamaOptions exact{.n_threads = options.threads, .n_context = longest_sequence(cases), .exact = true};
    CELSLM_TRY(auto f32, llama(options.reference, exact));
    noise.emplace(std::move(f32), rounded.engine ? ours(*rounded.engine) : nullptr);
  }
  print({{"model_id", loaded.model->fingerprint().id().hex()}});
  const std::vector<Treatment> treatments = chosen_treatments(options);
  const bool calibrated = std::ranges::any_of(treatments, &Treatment::calibrated);
  std::vector<Prepared> all;  // at once only where they calibrate each other: the logits take gigabytes
  for (int i = 0; i < static_cast<int>(cases.size()); ++i) {
    CELSLM_TRY(Prepared prepared, prepare(*loaded.engine, cases[static_cast<std::size_t>(i)], i, calibrated));
    all.push_back(std::move(prepared));
    if (noise) CELSLM_CHECK_OK(noise->measure(all.back()));
    if (calibrated) continue;
    CELSLM_CHECK_OK(measure(*loaded.engine, all, 0, treatments));
    all.clear();
  }
  for (std::size_t i = 0; i < all.size(); ++i) CELSLM_CHECK_OK(measure(*loaded.engine, all, i, treatments));
  return {};
}

}  // namespace
}  // namespace celslm

int main(int argc, char** argv) {
  celslm::Options options;
  CLI::App app("Compares a model's output behind KV that went through a codec with its output behind exact KV");
  celslm::add_program_options(app, options);
  app.add_option("--text", options.texts, "plain texts, windows of which are used as contexts");
  app.add_option("--worlds", options.worlds, "bulletins with questions, as in models/worlds");
  app.add_option("--reference", options.reference, "the model as f32, for its noise");
  app.add_option("--noise-model", options.noise_model, "the model with weights of 8 bits, where its own are wider");
  app.add_option("--codec", options.only, "measure only these codecs");
  app.add_option("--context", options.context_tokens, "tokens per window")->check(CLI::Range(1, 1 << 20));
  app.add_option("--windows", options.windows, "windows per text")->check(CLI::Range(1, 1 << 20));
  app.add_flag("--speed-only", options.speed_only,
               "only sizes and times of our codecs, without running the model on probes");
  CLI11_PARSE(app, argc, argv);
  return celslm::exit_code("celslm_bench_codec_quality", celslm::run(options));
}
