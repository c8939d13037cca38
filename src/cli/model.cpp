// celslm model: what a GGUF holds, and the ids by which packs, maps and tunings name it.
#include "model/engine/model.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/commands.h"
#include "cli/terminal/model_files.h"
#include "core/json.h"
#include "model/llama/llama_model.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr const char* kDescription =
    "Show a model: its name and shape, and the ids by which KV packs, layer maps and tunings name the model they are for. "
    "Reads the complete file, because the id covers every weight";

constexpr const char* kExamples = R"(Examples:
  celslm model qwen2.5-0.5b-q4_0.gguf
  celslm model m.gguf --json
  celslm model get https://models.example/qwen2.5-0.5b-q4_0.gguf --sha256 1d96…
)";

struct ModelCommand {
  std::string file;
  bool as_json = false;
};

// What libllama keeps of it has no shape that we know.
json described_foreign(const Model& model) {
  const LlamaModel& llama = *model.foreign();
  return {{"name", model.config().name},
          {"architecture", model.fingerprint().architecture},
          {"engine", model.engine_name()},
          {"engine_reason", model.foreign_reason()},
          {"n_vocab", model.config().n_vocab},
          {"n_ctx", model.config().n_ctx_train},
          {"weight_bytes", model.weight_bytes()},
          {"kv_bytes_per_token", llama.token_bytes()},
          {"state_bytes", llama.sequence_bytes()},
          {"libllama", model.fingerprint().rope},
          {"model_id", model.fingerprint().id().hex()},
          {"tokenizer", model.fingerprint().tokenizer.hex()}};
}

json described(const Model& model) {
  if (model.foreign()) return described_foreign(model);
  const ModelConfig& config = model.config();
  const ModelFingerprint& fingerprint = model.fingerprint();
  return {{"name", config.name},
          {"architecture", fingerprint.architecture},
          {"engine", model.engine_name()},
          {"n_layers", config.n_layers},
          {"n_heads", config.n_heads},
          {"n_kv_heads", config.n_kv_heads},
          {"head_dim", config.head_dim},
          {"n_vocab", config.n_vocab},
          {"n_ctx", config.n_ctx_train},
          {"weight_bytes", model.weight_bytes()},
          {"model_id", fingerprint.id().hex()},
          {"tokenizer", fingerprint.tokenizer.hex()}};
}

Status show_model(Environment& env, const ModelCommand& command) {
  CELSLM_TRY(const std::filesystem::path file, find_model_file(env, command.file));
  CELSLM_TRY(const auto model, Model::load(file, {.repack = false, .allow_foreign = true}));
  const json facts = described(*model);
  if (command.as_json) {
    env.out << dump_json(facts) << std::endl;
    return {};
  }
  std::size_t width = 0;
  for (const auto& [key, value] : facts.items()) width = std::max(width, key.size() + 1);
  for (const auto& [key, value] : facts.items())
    env.out << fmt::format("{:<{}} {}\n", key, width, value.is_string() ? value.get<std::string>() : dump_json(value));
  env.out << std::flush;
  return {};
}

}  // namespace

void add_model(CLI::App& app, Environment& env) {
  auto command = std::make_shared<ModelCommand>();
  CLI::App* model = app.add_subcommand("model", kDescription);
  model->footer(kExamples);
  model->require_subcommand(0, 1);
  add_model_get(*model, env);
  model->add_option("FILE", command->file, "GGUF file, or the name of a model that 'model get' or ./dev models fetched");
  model->add_flag("--json", command->as_json, "Print JSON");
  model->callback([&env, command, model] {
    if (!model->get_subcommands().empty()) return;
    if (command->file.empty()) throw CLI::RequiredError("FILE");
    env.action = [&env, command] {
      const Status status = show_model(env, *command);
      return status ? kExitFine : failed(env, status.error());
    };
  });
}

}  // namespace celslm
