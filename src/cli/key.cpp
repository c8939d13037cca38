// celslm key: the keys by which a server knows its clients.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <ostream>

#include "cli/commands.h"
#include "cli/terminal/option_kinds.h"
#include "kv/pack/key_chain.h"
#include "net/access/key_file.h"

namespace celslm {
namespace {

constexpr const char* kExamples = R"(Examples:
  celslm key new --keys keys.json --name alice --tenant acme --requests-per-minute 60
      prints a new key, for Alice alone; keys.json gets its hash and what it may do
  celslm edge --model small.gguf --keys keys.json
      takes requests with these keys only; 'kill -HUP' lets it read the file again
  celslm key remove --keys keys.json --name alice
  celslm key rotate
      gives the cloud on this machine another key to sign packs with, from its next start on; edges follow
)";

struct KeyCommand {
  std::string file;
  std::string data;  // of a cloud; empty: the default folder
  AccessKey key;
};

Status make(Environment& env, KeyCommand& command) {
  if (command.key.name.empty() || command.key.name == "token" || !is_key_name(command.key.name))
    return fail(ErrorKind::kInvalid, "'{}' cannot be a key's name: expected letters, digits and -_.@", command.key.name);
  if (!is_key_name(command.key.tenant))
    return fail(ErrorKind::kInvalid, "'{}' cannot be a tenant's name: expected letters, digits and -_.@",
                command.key.tenant);
  CELSLM_TRY(const std::string key, draw_key());
  command.key.hash = hash_of(key);
  CELSLM_CHECK_OK(append_key(command.file, command.key));
  env.out << key << std::endl;
  return {};
}

Status rotate(Environment& env, const KeyCommand& command) {
  std::filesystem::path folder = command.data;
  if (command.data.empty()) {
    CELSLM_TRY(folder, default_data_folder(env));
  }
  CELSLM_TRY(const KeyLink link, rotate_signing_key(folder / "cloud"));
  env.out << link.to.hex() << std::endl;
  env.err << "start the cloud again: until then it signs with " << link.from.hex() << std::endl;
  return {};
}

std::string limits_of(const KeyLimits& limits) {
  std::string out;
  for (const auto& [limit, name] :
       {std::pair(limits.requests_per_minute, "requests/min"), std::pair(limits.tokens_per_minute, "tokens/min"),
        std::pair(limits.concurrency, "at a time")}) {
    if (limit > 0) out += fmt::format("  {} {}", limit, name);
  }
  return out;
}

Status list(Environment& env, const KeyCommand& command) {
  CELSLM_TRY(const std::vector<AccessKey> keys, read_keys(command.file));
  for (const AccessKey& key : keys) {
    env.out << fmt::format("{}  tenant {}{}{}{}\n", key.name, key.tenant.empty() ? "(default)" : key.tenant,
                           key.widest_policy.empty() ? "" : "  policy " + key.widest_policy,
                           key.is_operator ? "  operator" : "", limits_of(key.limits));
  }
  env.out << std::flush;
  return {};
}

void add_limit(CLI::App& app, const std::string& name, std::int64_t& value, const std::string& help) {
  app.add_option(name, value, help)->check(CLI::Range(std::int64_t{1}, kMaxKeyLimit))->option_text("N [no limit]");
}

}  // namespace

void add_key(CLI::App& app, Environment& env) {
  auto command = std::make_shared<KeyCommand>();
  CLI::App* key = app.add_subcommand(
      "key", "Make, list and remove the keys by which a server knows its clients (--keys); replace a cloud's signing key");
  key->require_subcommand(1);
  key->footer(kExamples);
  const auto on = [&env](CLI::App* sub, const std::function<Status()>& run) {
    sub->callback([&env, run] {
      env.action = [&env, run] {
        const Status status = run();
        return status ? kExitFine : failed(env, status.error());
      };
    });
  };
  const auto add_file = [command](CLI::App* sub) {
    sub->add_option("--keys", command->file, "File with the keys")->required()->option_text("FILE REQUIRED");
  };
  const auto add_name = [command](CLI::App* sub) {
    sub->add_option("--name", command->key.name, "Name of the key, in logs and in the audit log")
        ->required()
        ->option_text("NAME REQUIRED");
  };
  CLI::App* make_command = key->add_subcommand("new", "Make a key: prints it, once, and adds its hash to the file");
  add_file(make_command);
  add_name(make_command);
  make_command
      ->add_option("--tenant", command->key.tenant, "Whose contexts it may use (default: those of the default tenant)")
      ->option_text("NAME");
  make_command->add_option("--policy", command->key.widest_policy, "The widest policy that its requests may ask for")
      ->check(CLI::IsMember({"edge-only", "fleet", "cloud"}))
      ->option_text("edge-only|fleet|cloud");
  add_limit(*make_command, "--requests-per-minute", command->key.limits.requests_per_minute, "Requests within a minute");
  add_limit(*make_command, "--tokens-per-minute", command->key.limits.tokens_per_minute,
            "Tokens computed and generated within a minute");
  add_limit(*make_command, "--concurrency", command->key.limits.concurrency, "Requests at the same time");
  make_command->add_flag("--operator", command->key.is_operator, "It may read /metrics, and the status of all tenants");
  on(make_command, [&env, command] { return make(env, *command); });
  CLI::App* list_command = key->add_subcommand("list", "Print the names of the keys, and what each may do");
  add_file(list_command);
  on(list_command, [&env, command] { return list(env, *command); });
  CLI::App* remove_command = key->add_subcommand("remove", "Take a key out of the file");
  add_file(remove_command);
  add_name(remove_command);
  on(remove_command, [command] { return remove_key(command->file, command->key.name); });
  CLI::App* rotate_command = key->add_subcommand(
      "rotate", "Replace the key with which a cloud signs its packs; the old one vouches for the new one");
  rotate_command->add_option("--data", command->data, "The cloud's data folder (default: $XDG_DATA_HOME/celslm)")
      ->option_text("FOLDER");
  on(rotate_command, [&env, command] { return rotate(env, *command); });
}

}  // namespace celslm
