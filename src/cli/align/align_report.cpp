// celslm align report
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <ostream>

#include "align/fit/fit.h"
#include "align/judge/report.h"
#include "align/map/apply.h"
#include "cli/align/align.h"
#include "cli/terminal/model_loading.h"
#include "cli/terminal/option_kinds.h"
#include "cli/terminal/progress.h"
#include "core/file.h"

namespace celslm {
namespace {

struct ReportCommand {
  std::string map;
  std::string from;
  std::string to;
  std::vector<std::string> texts;
  std::vector<std::string> questions;
  std::string json;
  std::vector<int> splits;
  GateLimits limits;
  bool write_gate = false;
  int max_tokens = 2048;
  int threads = 0;
};

constexpr int kMostSplits = 8;  // judged unless --splits says otherwise, evenly spread

Result<std::vector<int>> chosen_splits(const ReportCommand& command, int n_layers) {
  std::vector<int> out = command.splits;
  for (const int split : out) {
    if (split < 0 || split >= n_layers) {
      return fail(ErrorKind::kInvalid, "--splits names {}; the target has layers 0 to {}", split, n_layers - 1);
    }
  }
  const int n = std::min(n_layers, kMostSplits);
  for (int i = 0; i < n && command.splits.empty(); ++i) out.push_back(i * n_layers / n);
  return out;
}

Status write_text(const std::string& path, const std::string& text) {
  return path.empty() ? Status() : write_file_atomically(path, as_bytes(text));
}

Result<std::vector<Document>> documents_of(const ReportCommand& command, const KvMap& map) {
  std::vector<std::string> paths = command.texts;
  paths.insert(paths.end(), command.questions.begin(), command.questions.end());
  if (paths.empty()) return fail(ErrorKind::kInvalid, "nothing to judge the map on: give --text or --questions");
  CELSLM_TRY(auto documents, read_documents(paths));
  CELSLM_CHECK_OK(check_no_overlap(map, documents));
  return documents;
}

Status report(Environment& env, const ReportCommand& command) {
  CELSLM_TRY(KvMap map, read_map(command.map));
  CELSLM_TRY(const auto splits, chosen_splits(command, map.target.n_layers));
  CELSLM_TRY(const auto documents, documents_of(command, map));
  CELSLM_TRY(const auto source, load_model(env, command.from));
  CELSLM_TRY(const auto target, load_model(env, command.to));
  CELSLM_CHECK_OK(check_models(map, *source, *target));
  CELSLM_TRY(const auto from, Engine::create(source, {.n_threads = command.threads}));
  CELSLM_TRY(const auto to, Engine::create(target, {.n_threads = command.threads}));
  Judge judge(*from, *to, map, {.splits = splits, .max_tokens = command.max_tokens});
  std::vector<Observation> seen;
  Progress progress(env.err, "judging");
  for (std::size_t i = 0; i < documents.size(); ++i) {
    auto some = judge.judge(static_cast<int>(i), documents[i]);
    if (!some) return wrap(std::move(some).error(), fmt::format("document {}", i + 1));
    seen.insert(seen.end(), some->begin(), some->end());
    progress.show(static_cast<double>(i + 1) / static_cast<double>(documents.size()), fmt::format("{} documents", i + 1));
  }
  progress.end();
  if (seen.empty())
    return fail(ErrorKind::kInvalid, "no question, and no text long enough for a context of 32 tokens and 65 to follow it");
  map.gate = judge_splits(split_metrics(seen), command.limits);
  const Report result = summarise(map, judge, seen);
  env.out << to_text(result) << "\ngate: " << describe(map.gate) << std::endl;
  nlohmann::json json = to_json(result);
  json["gate"] = describe(map.gate);
  CELSLM_CHECK_OK(write_text(command.json, command.json.empty() ? "" : json.dump(1) + "\n"));
  if (!command.write_gate) return {};
  CELSLM_TRY(const KvMap judged, write_map(command.map, map));
  env.out << fmt::format("{} is now map {}", command.map, judged.id.hex().substr(0, 12)) << std::endl;
  return {};
}

void add_options(CLI::App& sub, ReportCommand& command) {
  sub.add_option("MAP", command.map, "The map")->required();
  sub.add_option("--from", command.from, "GGUF of its source: the large model")->required();
  sub.add_option("--to", command.to, "GGUF of its target: the small model")->required();
  sub.add_option("--text", command.texts, "Held-out texts: plain, or .json as in models/worlds; may be given several times")
      ->expected(1)
      ->take_all();
  sub.add_option("--questions", command.questions,
                 "Contexts with questions, as in models/worlds; may be given several times")
      ->expected(1)
      ->take_all();
  sub.add_option(
      "--json", command.json,
      "Write every observation there: './dev bench align --from FILE' makes 95 % intervals and a picture of them");
  sub.add_option("--splits", command.splits, "Judge mapping from these layers on (default: all, or eight evenly spread)")
      ->delimiter(',');
  add_real(sub, "--least-retained", command.limits.min_retained, 0, 10, "Gate: least share of the native right answers");
  add_real(sub, "--most-kl", command.limits.max_kl, 0, 1e6, "Gate: most divergence from native on plain text, nats a token");
  sub.add_flag("--write-gate", command.write_gate, "Store the verdict in the map");
  sub.add_option("--max-tokens", command.max_tokens, "Of one context")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  sub.add_option("--threads,-t", command.threads, "Threads (default: one per core)")->check(CLI::Range(0, 1024));
}

}  // namespace

void add_align_report(CLI::App& align, Environment& env) {
  auto command = std::make_shared<ReportCommand>();
  CLI::App* sub = align.add_subcommand("report", "Judge a map on held-out texts, beside what it has to be better than");
  add_options(*sub, *command);
  sub->callback([command, &env] {
    env.action = [command, &env] {
      const Status status = report(env, *command);
      return status ? kExitFine : failed(env, status.error());
    };
  });
}

}  // namespace celslm
