// celslm tuning: describes tunings, and puts the gate that was measured into them.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <ostream>

#include "align/tuning/gate.h"
#include "cli/commands.h"
#include "core/file.h"
#include "core/json.h"

namespace celslm {
namespace {

constexpr const char* kExamples = R"(Examples:
  celslm tuning judge small.tuning --gate gate.json
      stores what './dev bench quality --gate gate.json' measured of it, and signs it: clouds and edges serve no tuning
      that did not pass
  celslm tuning show small.tuning
)";

struct TuningCommand {
  std::string file;
  std::string gate;
  std::string key;
};

// Quoted: a stranger's text must not write to the terminal.
std::string quoted(const std::string& text) {
  return dump_json(text);
}

Status show(Environment& env, const TuningCommand& command) {
  CELSLM_TRY(const Tuning tuning, read_tuning(command.file));
  const KvTuning& constants = tuning.constants;
  env.out << fmt::format(
      "tuning   {}\nmodel    {}\nteacher  {}\ncorpus   {}\nshape    {} layers of {} values\nsigner   {}\n",
      constants.id.hex(), tuning.model.hex(), quoted(tuning.teacher), quoted(tuning.corpus), constants.n_layers,
      constants.kv_width, tuning.signature ? tuning.signature->signer.hex() : "not signed");
  if (tuning.gate.empty()) {
    env.out << "gate: not judged" << std::endl;
    return {};
  }
  CELSLM_TRY(const TuningGate gate, gate_of(tuning));
  env.out << describe(gate) << std::flush;
  return {};
}

Result<SigningKey> signing_key(const Environment& env, const TuningCommand& command) {
  if (!command.key.empty()) return SigningKey::load_or_create(command.key);
  CELSLM_TRY(const std::filesystem::path folder, default_data_folder(env));
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    return fail(ErrorKind::kIo, "{}: cannot create the folder: {} (choose a key with --key)", folder.string(),
                error.message());
  return SigningKey::load_or_create(folder / "tuning.key");
}

Status judge(Environment& env, const TuningCommand& command) {
  CELSLM_TRY(Tuning tuning, read_tuning(command.file));
  CELSLM_TRY(const Bytes gate, read_file(command.gate, kMaxGateBytes));
  if (const Status judged = judge_tuning(tuning, as_text(gate)); !judged) return wrap(judged.error(), command.gate);
  CELSLM_TRY(const SigningKey key, signing_key(env, command));
  sign_tuning(tuning, key);
  CELSLM_CHECK_OK(write_tuning(command.file, tuning));
  return show(env, command);
}

}  // namespace

void add_tuning(CLI::App& app, Environment& env) {
  auto command = std::make_shared<TuningCommand>();
  CLI::App* tuning = app.add_subcommand(
      "tuning", "Describe and judge tunings: constants for the KV cache of contexts, with which a model answers better");
  tuning->require_subcommand(1);
  tuning->footer(kExamples);
  const auto on = [&env, command](CLI::App* sub, Status (*run)(Environment&, const TuningCommand&)) {
    sub->add_option("FILE", command->file, "The tuning")->required();
    sub->callback([&env, command, run] {
      env.action = [&env, command, run] {
        const Status status = run(env, *command);
        return status ? kExitFine : failed(env, status.error());
      };
    });
  };
  on(tuning->add_subcommand("show", "Print what a tuning is for, where it comes from and what its gate measured"), show);
  CLI::App* judging = tuning->add_subcommand("judge", "Put a gate into the file, passed or refused, and sign it");
  judging->add_option("--gate", command->gate, "What './dev bench quality --gate FILE' wrote about this tuning")
      ->required()
      ->option_text("FILE REQUIRED");
  judging
      ->add_option("--key", command->key,
                   "File with the secret key to sign with, created if there is none (default: tuning.key in "
                   "$XDG_DATA_HOME/celslm)")
      ->option_text("FILE");
  on(judging, judge);
}

}  // namespace celslm
