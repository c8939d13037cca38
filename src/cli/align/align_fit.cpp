// celslm align fit
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <ostream>

#include "align/fit/fit.h"
#include "align/map/index_range.h"
#include "cli/align/align.h"
#include "cli/terminal/model_loading.h"
#include "cli/terminal/option_kinds.h"
#include "cli/terminal/progress.h"

namespace celslm {
namespace {

struct FitCommand {
  std::string from;
  std::string to;
  std::vector<std::string> texts;
  std::string out;
  std::vector<int> source_layers;
  SelectOptions select;
  std::string heads = "both";
  std::string precision = "f16";
  int max_tokens = 2048;
  int threads = 0;
};

Status check_source_layers(const std::vector<int>& layers, const Model& source) {
  for (const int layer : layers) {
    if (layer < 0 || layer >= source.config().n_layers) {
      return fail(ErrorKind::kInvalid, "--source-layers: there is no layer {}; the large model has layers 0 to {}", layer,
                  source.config().n_layers - 1);
    }
  }
  return {};
}

std::string layer_list(const std::vector<int>& layers) {
  std::string out;
  for (const int layer : layers) out += fmt::format("{}{}", out.empty() ? "" : "+", layer);
  return out;
}

void show(const KvMap& map, std::ostream& out) {
  const auto plane = [](const PlaneMap& p) {
    return fmt::format("R2 {:.4f} from {} ({})", p.held_out_r2, layer_list(p.sources),
                       p.same_head ? "same head" : "all heads");
  };
  for (std::size_t i = 0; i < map.layers.size(); ++i) {
    out << fmt::format("layer {:3}: K {}, V {}\n", i, plane(map.layers[i].k), plane(map.layers[i].v));
  }
  out << fmt::format("map {}: {}\n", map.id.hex().substr(0, 12), describe(map));
}

Status fit(Environment& env, const FitCommand& command) {
  CELSLM_TRY(const MapPrecision precision, map_precision_from(command.precision));
  CELSLM_TRY(const auto documents, read_documents(command.texts));
  CELSLM_TRY(const auto source, load_model(env, command.from));
  CELSLM_TRY(const auto target, load_model(env, command.to));
  const auto layers = command.source_layers.empty() ? index_range(source->config().n_layers) : command.source_layers;
  CELSLM_CHECK_OK(check_source_layers(layers, *source));
  CELSLM_TRY(const auto from, Engine::create(source, {.n_threads = command.threads}));
  CELSLM_TRY(const auto to, Engine::create(target, {.n_threads = command.threads}));
  const std::filesystem::path checkpoint = command.out + ".partial";
  Progress reading(env.err, "reading");
  const TimePoint start = env.clock.now();
  CELSLM_TRY(const CalibrationSums sums, collect(*from, *to, documents,
                                                 {.source_layers = layers,
                                                  .max_tokens = command.max_tokens,
                                                  .checkpoint = checkpoint,
                                                  .progress = [&](int done, int of, std::uint64_t rows) {
                                                    reading.show(static_cast<double>(done) / of,
                                                                 fmt::format("{} tokens", rows));
                                                  }}));
  reading.end();
  const TimePoint read = env.clock.now();
  Progress solving(env.err, "solving");
  FitOptions options{.select = command.select, .precision = precision, .progress = [&](int done, int of) {
                       solving.show(static_cast<double>(done) / of);
                     }};
  options.select.all_heads = command.heads != "same";
  options.select.same_head = command.heads != "all";
  CELSLM_TRY(const KvMap fitted, fit_map(source->fingerprint(), target->fingerprint(), sums, layers, documents, options));
  solving.end();
  CELSLM_TRY(const KvMap map, write_map(command.out, fitted));
  std::error_code ignored;
  std::filesystem::remove(checkpoint, ignored);
  env.err << fmt::format("read {:.0f} + {:.0f} tokens in {:.1f} s, solved in {:.1f} s\n", sums.fit.k.rows(),
                         sums.held_out.k.rows(), seconds(read - start), seconds(env.clock.now() - read));
  show(map, env.out);
  return {};
}

void add_options(CLI::App& sub, FitCommand& command) {
  sub.add_option("--from", command.from, "GGUF file of the large model, whose KV is converted")->required();
  sub.add_option("--to", command.to, "GGUF file of the small model, which uses the converted KV")->required();
  sub.add_option("--text", command.texts,
                 "Calibration texts: plain, or .json as in models/worlds; may be given several times")
      ->required()
      ->expected(1)
      ->take_all();
  sub.add_option("-o,--out", command.out, "File to write; an interrupted run continues from OUT.partial")->required();
  sub.add_option("--sources", command.select.max_sources,
                 "Most layers of the large model that K or V of one target layer is computed from")
      ->check(CLI::Range(1, static_cast<int>(kMaxMapSources)))
      ->capture_default_str();
  sub.add_option("--source-layers", command.source_layers,
                 "Use only these layers of the large model, e.g. 0,4,8 (fewer layers need less memory)")
      ->delimiter(',');
  add_real(sub, "--lambda", command.select.lambda, 1e-12, 1e12, "Ridge penalty, relative to the mean diagonal of X'X");
  sub.add_option("--heads", command.heads,
                 "Heads that a target head is computed from: all, the same one, or whichever fits better")
      ->check(CLI::IsMember({"all", "same", "both"}))
      ->capture_default_str();
  sub.add_option("--rank", command.select.rank, "Store each matrix as two factors of this rank; 0: as it is")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  sub.add_option("--precision", command.precision, "Number format of the stored matrices: f32, f16 or q8")
      ->capture_default_str();
  sub.add_option("--max-tokens", command.max_tokens, "Tokens used of each document, at most")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  sub.add_option("--threads,-t", command.threads, "Threads (default: one per core)")->check(CLI::Range(0, 1024));
}

}  // namespace

void add_align_fit(CLI::App& align, Environment& env) {
  auto command = std::make_shared<FitCommand>();
  CLI::App* sub = align.add_subcommand("fit", "Fit a map from one model's KV to another's on calibration texts");
  add_options(*sub, *command);
  sub->callback([command, &env] {
    env.action = [command, &env] {
      const Status status = fit(env, *command);
      return status ? kExitFine : failed(env, status.error());
    };
  });
}

}  // namespace celslm
