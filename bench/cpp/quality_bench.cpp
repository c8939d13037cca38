// Asks questions about contexts whose KV comes from different sources, and prints what is answered. Reads the file that
// quality_tasks.h describes; `./dev bench quality` writes it, and scores the answers. What a context's questions can be
// asked behind ("reads"):
//
//   none     nothing: closed book            own     the context, computed by the model itself
//   cloud    the large model with the context computed by itself
//   mapped   the large model's KV through a layer map
//   tuned    the model's own KV with a tuning's constants added
//   own-teacher    the same with another tuning: one trained with the model as its own teacher
//   match/4  condensed to a quarter of the rows; condensed_reads.h has all such names
//   studied  what a trainer made of the context (docs/studied-format.md)
//   q8 ...   the model's own KV through that codec, or another treatment of kv_treatments.h that is not calibrated
//
// Prints one JSON object per line: {"model_id", "cloud_model_id", "tuning_id"}, then for each context, with --count
//   {"context", "tokens", "limit"}     of the longest conversation about it; what the models were trained for
// and otherwise, for each of its "reads"
//   {"context", "reads", "tokens", "kv_s", "answer_s", "bits", "values", "answers": [{"reply", "log_p", "gold_tokens"}]}
// where bits / values is the size of the KV (bits is null for none), kv_s the time to have it, log_p the sum over gold's
// tokens.
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "bench/cpp/quality_reads.h"
#include "core/json.h"

namespace celslm {
namespace {

using Json = nlohmann::json;

void print(const Json& line) {
  std::printf("%s\n", dump_json(line).c_str());
  std::fflush(stdout);
}

void print_models(const QualityReads& reads) {
  const Model* cloud = reads.cloud();
  print({{"model_id", reads.edge().fingerprint().id().hex()},
         {"cloud_model_id", cloud != nullptr ? Json(cloud->fingerprint().id().hex()) : Json()},
         {"tuning_id", reads.tuning() ? Json(reads.tuning()->hex()) : Json()}});
}

Status count(const QualityReads& reads, const QualityTask& task, int limit) {
  std::size_t tokens = 0;
  int most = reads.edge().config().n_ctx_train;
  for (const Model* model : {&reads.edge(), reads.cloud()}) {
    if (model == nullptr) continue;
    CELSLM_TRY(const QualityPrompts prompts, prompts_of(model->text(), task, true));
    tokens = std::max(tokens, prompts.tokens(limit));
    most = std::min(most, model->config().n_ctx_train);
  }
  print({{"context", task.number}, {"tokens", tokens}, {"limit", most}});
  return {};
}

Status ask(const QualityTask& task, const std::string& name, const ReadKv& kv, int limit) {
  const Stopwatch watch;
  CELSLM_TRY(const auto answers, answer_questions(*kv.engine, kv.segment, kv.prompts->questions, limit));
  const double seconds = watch.seconds();
  Json lines = Json::array();
  for (std::size_t i = 0; i < answers.size(); ++i) {
    lines.push_back({{"reply", kv.engine->model().text().detokenize(answers[i].reply)},
                     {"log_p", answers[i].gold_log_p},
                     {"gold_tokens", kv.prompts->questions[i].gold.size()}});
  }
  const ModelConfig& config = kv.engine->model().config();
  const std::size_t tokens = kv.prompts->context.size();
  print({{"context", task.number},
         {"reads", name},
         {"tokens", tokens},
         {"kv_s", kv.seconds},
         {"answer_s", seconds},
         {"bits", kv.bits ? Json(*kv.bits) : Json()},
         {"values", 2.0 * config.n_layers * config.kv_width() * static_cast<double>(tokens)},
         {"answers", lines}});
  return {};
}

Status ask_all(QualityReads& reads, const QualityTask& task, int limit) {
  CELSLM_CHECK_OK(reads.begin(task));
  for (const std::string& name : task.reads) {
    CELSLM_TRY(const ReadKv kv, reads.read(name));
    CELSLM_CHECK_OK(ask(task, name, kv, task.plain ? 1 : limit));
  }
  return {};
}

Status run(const QualityOptions& options) {
  CELSLM_TRY(const auto tasks, read_quality_tasks(options.tasks));
  CELSLM_TRY(const auto reads, QualityReads::create(options));
  for (const QualityTask& task : tasks) {
    for (const std::string& name : task.reads) CELSLM_CHECK_OK(reads->check(name));
  }
  print_models(*reads);
  for (const QualityTask& task : tasks)
    CELSLM_CHECK_OK(options.count ? count(*reads, task, options.limit) : ask_all(*reads, task, options.limit));
  return {};
}

}  // namespace
}  // namespace celslm

int main(int argc, char** argv) {
  celslm::QualityOptions options;
  CLI::App app("Asks questions about contexts whose KV comes from different sources");
  celslm::add_program_options(app, options);
  app.add_option("--tasks", options.tasks, "contexts with questions, as quality_tasks.h describes")->required();
  app.add_option("--cloud-model", options.cloud_model, "the large model's GGUF");
  app.add_option("--map", options.map, "a layer map from the large model to the model");
  app.add_option("--tuning", options.tuning, "a tuning for the model; its gate does not matter here");
  app.add_option("--studied", options.studied, "a folder of studied contexts, each named <context handle>.gguf");
  app.add_option("--own-teacher-tuning", options.own_teacher_tuning, "the same, for 'own-teacher'");
  app.add_option("--limit", options.limit, "tokens of a reply, at most")->check(CLI::Range(1, 1 << 16));
  app.add_flag("--count", options.count, "count the contexts' tokens, ask nothing");
  CLI11_PARSE(app, argc, argv);
  return celslm::exit_code("celslm_bench_quality", celslm::run(options));
}
