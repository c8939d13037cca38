// celslm condense: short KV of studied contexts, fitted to the questions that a study asked about them.
#include "align/condense/condense.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <ostream>

#include "align/condense/conversations.h"
#include "align/study/sources.h"
#include "cli/commands.h"
#include "cli/terminal/model_loading.h"
#include "cli/terminal/option_kinds.h"
#include "cli/terminal/progress.h"
#include "kv/studied/studied.h"

namespace celslm {
namespace {

constexpr const char* kDescription =
    "Make short KV of contexts: a part of the rows, fitted so that a study's questions read them as they read the full KV "
    "(docs/condensing.md)";

constexpr const char* kExamples = R"(Examples:
  celslm study --model large.gguf --text manual.txt --out study.jsonl
  celslm condense --model small.gguf --study study.jsonl --rows 1/4 --out studied/
      a file for each context of the study, for a cloud that hosts small.gguf; Ctrl-C keeps those that are there, the same
      command continues
)";

struct CondenseCommand {
  std::string model;
  std::vector<std::string> studies;
  std::string out;
  std::string rows = "1/4";
  bool read_again = true;
  bool on_policy = false;
  int max_queries = 4096;
  int threads = 0;
};

// Of how many tokens one row is kept.
Result<int> divisor_of(const std::string& rows) {
  int out = 0;
  char rest = 0;
  if (std::sscanf(rows.c_str(), "1/%d%c", &out, &rest) == 1 && out >= 1) return out;
  return fail(ErrorKind::kInvalid, "--rows is '{}'; expected a part of the tokens, such as 1/4", rows);
}

struct Run {
  Environment& env;
  const CondenseCommand& command;
  Engine& engine;
  int divisor = 1;
};

std::vector<StudyTurn> turns_of(const Run& run, const QuestionsLine& line) {
  std::vector<StudyTurn> out;
  if (run.command.read_again) out = read_again(line.text.system_message());
  for (const QuestionsLine::Asked& asked : line.questions) out.push_back({.prompt = asked.prompt, .answer = asked.gold});
  return out;
}

// Names all that a file's contents depend on besides model and context.
std::string recipe_of(const Run& run, const std::vector<StudyTurn>& turns) {
  Hasher hasher;
  for (const StudyTurn& turn : turns) hasher.update_field(turn.prompt).update_field(turn.answer);
  return fmt::format("attention matching, 1/{} of the rows, {} turns {}, at most {} queries{}", run.divisor, turns.size(),
                     hasher.finish().hex().substr(0, 16), run.command.max_queries,
                     run.command.on_policy ? ", layer by layer behind condensed KV" : "");
}

bool is_done(const std::filesystem::path& path, const StudiedContext& wanted) {
  const auto there = read_studied(path);
  return there && there->context.model == wanted.model && there->context.context == wanted.context &&
         there->context.recipe == wanted.recipe;
}

Result<CondensedKv> condensed(const Run& run, const QuestionsLine& line, const StudiedContext& of,
                              const std::vector<StudyTurn>& turns) {
  CELSLM_TRY(const ExactKv exact, compute_kv(run.engine, of.tokens, run.env.signals.stop()));
  CELSLM_TRY(const auto conversations, conversations_of(run.engine.model().text(), line.text.system_message(), turns));
  MatchOptions match;
  const int n_tokens = exact.planes.n_tokens;
  match.choice.n_rows = std::max(n_tokens / run.divisor, std::min(n_tokens, match.choice.n_first + match.choice.n_last));
  Progress progress(run.env.err, line.text.id);
  const CondenseOptions options{.max_queries = run.command.max_queries, .progress = [&](int done, int layers) {
                                  progress.show(static_cast<double>(done) / layers);
                                }};
  if (run.command.on_policy) return condense_on_policy(run.engine, exact, conversations, match, options);
  CELSLM_TRY(auto made, condense(run.engine, exact, conversations, {&match, 1}, options));
  return std::move(made.front());
}

Status condense_line(const Run& run, const QuestionsLine& line) {
  const Model& model = run.engine.model();
  const std::string system = line.text.system_message();
  StudiedContext out{.model = model.fingerprint().id(),
                     .context = context_handle(system),
                     .n_kv_heads = model.config().n_kv_heads,
                     .head_dim = model.config().head_dim};
  CELSLM_TRY(out.tokens, model.text().context(system));
  const auto turns = turns_of(run, line);
  out.recipe = recipe_of(run, turns);
  const auto path = std::filesystem::path(run.command.out) / (out.context.hex().substr(0, 16) + ".gguf");
  if (is_done(path, out)) return {};
  CELSLM_TRY(out.kv, condensed(run, line, out, turns));
  CELSLM_CHECK_OK(write_studied(path, out));
  run.env.out << fmt::format("{} {}: {} rows for {} tokens\n", path.string(), line.text.id, out.kv.n_rows, out.kv.n_tokens)
              << std::flush;
  return {};
}

Status condense_studies(Environment& env, const CondenseCommand& command) {
  CELSLM_TRY(const int divisor, divisor_of(command.rows));
  std::vector<QuestionsLine> lines;
  for (const std::string& path : command.studies) {
    CELSLM_TRY(auto some, read_questions(path));
    std::ranges::move(some, std::back_inserter(lines));
  }
  CELSLM_TRY(const auto model, load_model(env, command.model));
  CELSLM_TRY(const auto engine, Engine::create(model, {.n_threads = command.threads}));
  std::error_code error;
  std::filesystem::create_directories(command.out, error);
  if (error) return fail(ErrorKind::kIo, "{}: {}", command.out, error.message());
  env.signals.arm();
  const Run run{.env = env, .command = command, .engine = *engine, .divisor = divisor};
  for (const QuestionsLine& line : lines) {
    if (env.signals.stop().stop_requested()) return fail(ErrorKind::kCancelled, "stopped; the same command continues");
    if (Status status = condense_line(run, line); !status) return wrap(std::move(status).error(), line.text.id);
  }
  return {};
}

void add_options(CLI::App& app, CondenseCommand& command) {
  app.add_option("--model,-m", command.model, "GGUF file of the model that is to read the short KV: the small one")
      ->required()
      ->option_text("FILE REQUIRED");
  add_list(app, "--study", command.studies, "FILE", "Contexts with questions, as 'celslm study' writes them")->required();
  app.add_option("--out,-o", command.out, "Folder for a file of each context; files that are there already are kept")
      ->required()
      ->option_text("FOLDER REQUIRED");
  app.add_option("--rows", command.rows, "How many rows to keep: a part of the tokens (default: 1/4)")->option_text("1/N");
  app.add_flag("!--no-read-again", command.read_again, "Do not also fit to a second reading of the text");
  app.add_flag("--on-policy", command.on_policy, "Fit each layer to what is read behind the short KV of those below");
  add_number(app, "--queries", command.max_queries, 1, 1 << 20, "Queries to fit to, for each KV head and layer, at most");
  app.add_option("--threads,-t", command.threads, "Threads (default: one per core)")
      ->check(CLI::Range(0, 1024))
      ->option_text("N");
}

}  // namespace

void add_condense(CLI::App& app, Environment& env) {
  auto command = std::make_shared<CondenseCommand>();
  CLI::App* sub = app.add_subcommand("condense", kDescription);
  sub->footer(kExamples);
  add_options(*sub, *command);
  sub->callback([command, &env] {
    env.action = [command, &env] {
      const Status status = condense_studies(env, *command);
      return status ? kExitFine : failed(env, status.error());
    };
  });
}

}  // namespace celslm
