// celslm study: a large model's questions and answers about texts, and its distributions on answers.
#include "cli/study/study.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <ostream>

#include "align/study/annotate.h"
#include "align/study/journal.h"
#include "align/study/self_study.h"
#include "align/study/sources.h"
#include "align/study/study_engine.h"
#include "cli/study/study_output.h"
#include "cli/terminal/model_loading.h"
#include "cli/terminal/option_kinds.h"

namespace celslm {
namespace {

constexpr const char* kDescription =
    "Let a model write questions and answers about texts, check them, and keep them with its distribution on each answer: "
    "what a small model's KV is tuned and judged on (docs/study.md)";

constexpr const char* kExamples = R"(Examples:
  celslm study --model large.gguf --text manual.txt --text faq.txt --out study.jsonl
      up to 32 questions about each text; Ctrl-C keeps what is there, the same command continues
  celslm study --model large.gguf --contexts-of questions.jsonl --budget 30000 --questions-per-context 16 --out study.jsonl
      about the contexts of a file of questions (docs/questions.md), whose own questions are not read
  celslm study --model models/celslm-demo-large-f16.gguf --contexts-of models/worlds/small.json --ask-by user-turn --out s.jsonl
      the demo family's large model about its bulletins, in the words of its own users
  celslm study --model large.gguf --questions questions.jsonl --out annotated.jsonl
      adds the model's distributions on the given answers to an existing file of questions
)";

struct StudyCommand {
  std::string model;
  std::vector<std::string> texts;
  std::vector<std::string> contexts_of;
  std::vector<std::string> questions;
  std::string out;
  StudyOptions options;
  int budget = 50'000;
  int seed = 1;
  int context_tokens = 4096;
  int threads = 0;
};

// What both kinds of run need.
struct Run {
  Environment& env;
  const StudyCommand& command;
  Engine& engine;
  StudyOutput& output;

  bool stopped() const { return env.signals.stop().stop_requested(); }
  Hash256 model() const { return engine.model().fingerprint().id(); }
  void report(std::size_t i, std::size_t of, const std::string& id, const std::string& what) const {
    env.err << fmt::format("{} of {}: {}: {}", i + 1, of, id, what) << std::endl;
  }
};

// Whether the text is to be done now; says why not.
bool is_due(const Run& run, const StudyText& text, std::size_t i, std::size_t of) {
  if (run.output.has(text)) return false;
  const auto tokens = run.engine.model().text().context(text.system_message());
  if (tokens && tokens->size() <= static_cast<std::size_t>(run.command.context_tokens)) return true;
  run.report(
      i, of, text.id,
      tokens ? fmt::format("skipped: {} tokens, more than --context-tokens {}", tokens->size(), run.command.context_tokens)
             : "skipped: " + tokens.error().message);
  return false;
}

std::string summary_of(const StudyProgress& progress, double seconds) {
  std::string out = fmt::format("{} questions kept of {} written, {} tokens, {:.0f} s", progress.questions.size(),
                                progress.written, progress.tokens, seconds);
  for (const auto& [reason, n] : progress.dropped) out += fmt::format(", {} {}", n, reason);
  return out;
}

Status study_text(const Run& run, const StudyText& text, std::size_t i, std::size_t of) {
  const TimePoint start = run.env.clock.now();
  CELSLM_TRY(const auto state, run.output.state_of(text));
  CELSLM_TRY(StudyJournal journal,
             StudyJournal::open(
                 state, {.model = run.model(), .system = hash_of(text.system_message()), .options = run.command.options}));
  if (!journal.problem().empty()) run.env.err << journal.problem() << std::endl;
  CELSLM_TRY(const auto model, StudyEngine::create(run.engine, text.system_message()));
  SelfStudy study(*model, text.text, run.command.options, journal.progress());
  while (!study.progress().finished && !run.stopped()) {
    CELSLM_TRY(const auto round, study.advance());
    if (round) CELSLM_CHECK_OK(journal.append(*round));
  }
  const StudyProgress& progress = study.progress();
  if (!progress.questions.empty())
    CELSLM_CHECK_OK(run.output.append(text, study_line(text, progress, run.command.options, run.model())));
  run.report(i, of, text.id,
             (progress.finished ? "" : "stopped: ") + summary_of(progress, seconds(run.env.clock.now() - start)));
  return progress.finished && !progress.questions.empty() ? journal.remove() : Status();
}

Status study_texts(const Run& run, const std::vector<StudyText>& texts) {
  for (std::size_t i = 0; i < texts.size() && !run.stopped(); ++i) {
    if (!is_due(run, texts[i], i, texts.size())) continue;
    if (Status status = study_text(run, texts[i], i, texts.size()); !status)
      return wrap(std::move(status).error(), texts[i].id);
  }
  return {};
}

Status annotate_lines(const Run& run, const std::vector<QuestionsLine>& lines) {
  for (std::size_t i = 0; i < lines.size() && !run.stopped(); ++i) {
    const QuestionsLine& line = lines[i];
    if (line.questions.empty() || !is_due(run, line.text, i, lines.size())) continue;
    const auto annotated = annotate(run.engine, line, [&] { return !run.stopped(); });
    if (!annotated && annotated.error().kind == ErrorKind::kCancelled) break;
    if (!annotated) return wrap(annotated.error(), line.text.id);
    CELSLM_CHECK_OK(run.output.append(line.text, annotated_line(line, annotated->teachers, annotated->tokens, run.model())));
    run.report(i, lines.size(), line.text.id,
               fmt::format("{} questions, {} tokens", line.questions.size(), annotated->tokens));
  }
  return {};
}

Result<std::vector<StudyText>> read_texts(const StudyCommand& command) {
  std::vector<StudyText> out;
  for (const std::string& path : command.texts) {
    CELSLM_TRY(out.emplace_back(), read_study_text(path));
  }
  for (const std::string& path : command.contexts_of) {
    CELSLM_TRY(auto some, read_study_contexts(path));
    std::ranges::move(some, std::back_inserter(out));
  }
  std::vector<StudyText*> all;
  all.reserve(out.size());
  for (StudyText& text : out) all.push_back(&text);
  make_unique(all);
  return out;
}

Result<std::vector<QuestionsLine>> read_lines(const StudyCommand& command) {
  std::vector<QuestionsLine> out;
  for (const std::string& path : command.questions) {
    CELSLM_TRY(auto some, read_questions(path));
    std::ranges::move(some, std::back_inserter(out));
  }
  std::vector<StudyText*> all;
  all.reserve(out.size());
  for (QuestionsLine& line : out) all.push_back(&line.text);
  make_unique(all);
  return out;
}

Status study(Environment& env, StudyCommand command) {
  command.options.budget = command.budget;
  command.options.seed = static_cast<std::uint64_t>(command.seed);
  const bool annotates = !command.questions.empty();
  CELSLM_TRY(const auto texts, read_texts(command));
  CELSLM_TRY(const auto lines, read_lines(command));
  if (annotates != texts.empty())
    return fail(ErrorKind::kInvalid,
                "give --text or --contexts-of to write questions, or --questions to annotate given ones");
  CELSLM_TRY(const auto model, load_model(env, command.model));
  CELSLM_TRY(const auto engine, Engine::create(model, {.n_threads = command.threads}));
  const StudyRecipe recipe{.model = model->fingerprint().id(),
                           .options = annotates ? std::nullopt : std::optional(command.options)};
  CELSLM_TRY(StudyOutput output, StudyOutput::open(command.out, recipe));
  if (output.size() > 0) env.err << fmt::format("{}: {} contexts are done", command.out, output.size()) << std::endl;
  env.signals.arm();
  const Run run{.env = env, .command = command, .engine = *engine, .output = output};
  CELSLM_CHECK_OK(annotates ? annotate_lines(run, lines) : study_texts(run, texts));
  if (run.stopped()) return fail(ErrorKind::kCancelled, "stopped; the same command continues");
  output.remove_states();
  return {};
}

void add_options(CLI::App& app, StudyCommand& command) {
  app.add_option("--model,-m", command.model, "GGUF file of the model that asks and answers: the large one")
      ->required()
      ->option_text("FILE REQUIRED");
  add_list(app, "--text", command.texts, "FILE", "Plain text, one context");
  add_list(app, "--contexts-of", command.contexts_of, "FILE",
           "File of questions or bulletins (models/worlds) whose contexts are studied; its questions are not read");
  add_list(app, "--questions", command.questions, "FILE",
           "File of questions or bulletins to annotate with the model's distributions on the given answers");
  app.add_option("--out,-o", command.out, "File to write, one context a line; a run that was stopped continues there")
      ->required()
      ->option_text("FILE REQUIRED");
  add_number(app, "--budget", command.budget, 1, 1 << 30,
             "Tokens to spend on a context, read and generated, the context's own among them");
  add_ask_by(app, "--ask-by", command.options.ask_by);
  add_number(app, "--questions-per-context", command.options.questions, 1, 1 << 16, "Questions to keep, at most");
  add_number(app, "--context-tokens", command.context_tokens, 1, 1 << 24, "Longer contexts are skipped, and named");
  add_number(app, "--seed", command.seed, 0, 1 << 30, "Of what is asked, and of sampling");
  app.add_option("--threads,-t", command.threads, "Threads (default: one per core)")
      ->check(CLI::Range(0, 1024))
      ->option_text("N");
}

}  // namespace

void add_ask_by(CLI::App& app, const std::string& name, AskBy& value) {
  add_choice<AskBy>(app, name, value, {{"instruction", AskBy::kInstruction}, {"user-turn", AskBy::kUserTurn}},
                    "How questions come about: the model is asked for them, or it continues where a user's turn begins (for "
                    "models that follow no instructions, such as the demo family)");
}

void add_study(CLI::App& app, Environment& env) {
  auto command = std::make_shared<StudyCommand>();
  CLI::App* sub = app.add_subcommand("study", kDescription);
  sub->footer(kExamples);
  add_options(*sub, *command);
  sub->callback([command, &env] {
    env.action = [command, &env] {
      const Status status = study(env, *command);
      return status ? kExitFine : failed(env, status.error());
    };
  });
}

}  // namespace celslm
