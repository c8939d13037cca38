// celslm context: registers texts as shared, lists and removes them.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <ostream>

#include "align/tuning/gate.h"
#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/context_commands.h"
#include "core/file.h"
#include "core/json.h"
#include "core/printable.h"
#include "core/utf8.h"
#include "net/access/caller.h"
#include "serve/cloud/context_registry.h"
#include "serve/wire/context_text.h"
#include "serve/wire/errors.h"
#include "serve/wire/protocol.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr const char* kExamples = R"(Examples:
  celslm context put manual.txt
      registers a text at the cloud on this machine and prints its handle: requests whose system message is this text, or
      that name the handle, use the KV cache that the cloud computes for it
  celslm context put manual.txt --edge http://edge:8080 --name "Manual, 3rd edition"
      the same through an edge, which forwards it to its cloud
  celslm context advise requests.jsonl --out texts
      compares the system messages of example requests and writes what they share to texts/context-1.txt
  celslm context list --cloud https://cloud.example:8081 --token-file token
)";

struct ContextCommand {
  std::string cloud = "http://127.0.0.1:8081";
  std::string edge;
  std::string token_file;
  bool token_in_clear = false;
  std::string ca_file;
  ClientCertificate certificate;
  std::string tenant;
  std::string file;
  std::string name;
  std::string handle;
  std::vector<std::string> examples;
  std::string out_folder;
  bool prefill = false;
};

// The response's body as JSON (null for an empty one); error responses as errors.
Result<json> ask(const ContextCommand& command, const HttpCall& call) {
  CELSLM_TRY(const auto client, connect({.base_url = command.edge.empty() ? command.cloud : command.edge,
                                         .ca_file = command.ca_file,
                                         .token_in_clear = command.token_in_clear,
                                         .certificate_file = command.certificate.certificate_file,
                                         .key_file = command.certificate.key_file},
                                        command.token_file));
  HttpCall patient = call;
  if (!command.tenant.empty()) patient.headers[kTenantHeader] = command.tenant;
  // On a slow link a long list takes minutes, and a long text as long to be tokenized
  patient.timeout = 0ms;
  patient.stall_timeout = 60s;
  auto answer = client->call(patient);
  if (!answer && answer.error().kind == ErrorKind::kUnavailable) {
    return fail(ErrorKind::kUnavailable,
                "{}; is 'celslm cloud' running there? (choose another address with --cloud URL or --edge URL)",
                answer.error().message);
  }
  if (!answer) return std::unexpected(answer.error());
  if (answer->status < 200 || answer->status > 299) {
    return wrap(error_of_answer(answer->status, answer->body),
                fmt::format("{} answered {}", client->base_url(), answer->status));
  }
  if (answer->body.empty()) return json();
  return parse_object(as_text(answer->body));
}

Result<std::string> read_text(Environment& env, const std::string& file) {
  if (file != "-") {
    CELSLM_TRY(const Bytes bytes, read_file(file, kMaxContextBytes));
    return std::string(as_text(bytes));
  }
  std::string text;
  for (auto it = std::istreambuf_iterator<char>(env.in); it != std::istreambuf_iterator<char>(); ++it) {
    if (text.size() == kMaxContextBytes)
      return fail(ErrorKind::kInvalid, "standard input has more than {} bytes, which is the limit for a context",
                  kMaxContextBytes);
    text.push_back(*it);
  }
  return text;
}

// A file's name, if it is valid as a context's.
std::string default_name(const std::string& file) {
  std::string name = file == "-" ? "" : std::filesystem::path(file).filename().string();
  return ContextRegistry::check("x", name) ? name : "";
}

Status put(Environment& env, const ContextCommand& command) {
  CELSLM_TRY(const std::string as_read, read_text(env, command.file));
  const std::string text = plain_context_text(as_read);
  const std::string name = command.name.empty() ? default_name(command.file) : command.name;
  if (const Status fit = ContextRegistry::check(text, name); !fit) return wrap(fit.error(), command.file);
  CELSLM_TRY(const json answer, ask(command, {.method = "POST",
                                              .path = command.prefill ? "/v1/contexts?prefill=1" : "/v1/contexts",
                                              .body = json{{"text", text}, {"name", name}}.dump()}));
  CELSLM_TRY(const ContextInfo info, context_info_from(answer));
  if (info.handle != context_handle(text, info.tenant))
    return fail(ErrorKind::kMismatch, "the server registered a different text than the one sent: the handles differ");
  env.out << info.handle.hex() << std::endl;
  CELSLM_TRY(const json* models, JsonFields(answer).list("models", kMaxHostedModels));
  for (std::size_t i = 0; models != nullptr && i < models->size(); ++i) {
    CELSLM_TRY(const auto model, JsonFields::of((*models)[i], "models[]"));
    CELSLM_TRY(const auto n_tokens, model.required_integer("n_tokens", 0, std::numeric_limits<int>::max()));
    CELSLM_TRY(const std::string label, model.required_text("name"));
    env.err << n_tokens << " tokens for " << dump_json(printable(label)) << std::endl;
  }
  return {};
}

Status list(Environment& env, const ContextCommand& command) {
  CELSLM_TRY(const json answer, ask(command, {.path = "/v1/contexts", .max_body_bytes = kMaxListBytes}));
  CELSLM_TRY(const json* contexts, JsonFields(answer).required_list("contexts", kMaxContexts));
  for (const json& context : *contexts) {
    CELSLM_TRY(const ContextInfo info, context_info_from(context));
    env.out << fmt::format("{}  {:>8}  {}\n", info.handle.hex(), info.bytes, info.name);
  }
  env.out << std::flush;
  return {};
}

// What KV a cloud can make of the context besides its models' own. Texts of the cloud are quoted: they must not write to the
// terminal.
Result<std::string> guidance_line(const json& item) {
  CELSLM_TRY(const JsonFields fields, JsonFields::of(item, "guidance[]"));
  CELSLM_TRY(const std::string provenance, fields.required_text("provenance", 32));
  CELSLM_TRY(const Hash256 id, fields.required_hash("id"));
  CELSLM_TRY(const std::string model, fields.required_text("name"));
  std::string out = fmt::format("{} for {}: {}\n", dump_json(printable(provenance)), dump_json(printable(model)), id.hex());
  const json* gate = fields.find("gate");
  if (gate == nullptr) return out;
  const auto figures = parse_gate(dump_json(*gate));
  return out + (figures ? describe(*figures) : fmt::format("gate: cannot be read: {}\n", figures.error().message));
}

Status show(Environment& env, const ContextCommand& command) {
  if (!command.edge.empty()) return fail(ErrorKind::kInvalid, "an edge does not know this: ask the cloud (--cloud URL)");
  CELSLM_TRY(const Hash256 handle, Hash256::from_hex(command.handle));
  CELSLM_TRY(const json answer, ask(command, {.path = "/v1/contexts/" + handle.hex(), .max_body_bytes = kMaxListBytes}));
  CELSLM_TRY(const ContextInfo info, context_info_from(answer));
  CELSLM_TRY(const json* guidance, JsonFields(answer).list("guidance", kMaxHostedModels));
  std::string out = fmt::format("handle  {}\nname    {}\nbytes   {}\n", info.handle.hex(), dump_json(info.name), info.bytes);
  if (guidance == nullptr || guidance->empty()) out += "guidance: none, the models' own KV only\n";
  for (std::size_t i = 0; guidance != nullptr && i < guidance->size(); ++i) {
    CELSLM_TRY(const std::string line, guidance_line((*guidance)[i]));
    out += line;
  }
  env.out << out << std::flush;
  return {};
}

Status remove(const ContextCommand& command) {
  CELSLM_TRY(const Hash256 handle, Hash256::from_hex(command.handle));
  const auto answer = ask(command, {.method = "DELETE", .path = "/v1/contexts/" + handle.hex()});
  return answer ? Status() : std::unexpected(answer.error());
}

void add_place(CLI::App& app, ContextCommand& command) {
  app.add_option("--cloud", command.cloud, "URL of the cloud")->envname("CELSLM_CLOUD")->capture_default_str();
  app.add_option("--edge", command.edge, "URL of an edge that forwards the request to its cloud, instead of --cloud");
  app.add_option("--token-file", command.token_file, "File with the bearer token to send");
  add_token_in_clear(app, command.token_in_clear);
  app.add_option("--ca-file", command.ca_file, "PEM file with certificates to trust (default: the system's)");
  add_client_certificate(app, command.certificate);
  app.add_option(
         "--tenant", command.tenant,
         "Whose context it is, for callers that may act for all (with a node's certificate or the server's own token); "
         "callers with a key act for that key's tenant")
      ->option_text("NAME");
}

}  // namespace

void add_context(CLI::App& app, Environment& env) {
  auto command = std::make_shared<ContextCommand>();
  CLI::App* context = app.add_subcommand(
      "context", "Register texts that requests share (contexts) at a cloud, list, describe and remove them");
  context->require_subcommand(1);
  context->footer(kExamples);
  const auto on = [&env, command](CLI::App* sub, const std::function<Status()>& run) {
    add_place(*sub, *command);
    sub->callback([&env, run] {
      env.action = [&env, run] {
        const Status status = run();
        return status ? kExitFine : failed(env, status.error());
      };
    });
  };
  CLI::App* put_command = context->add_subcommand("put", "Register a text; prints its handle");
  put_command->add_option("FILE", command->file, "File with the text, UTF-8; '-' for standard input")->required();
  put_command->add_option("--name", command->name, "Name shown by 'list' (default: the file's name)");
  put_command->add_flag("--prefill", command->prefill,
                        "Let the cloud compute its KV cache now rather than at the first request for it");
  on(put_command, [&env, command] { return put(env, *command); });
  on(context->add_subcommand("list", "Print handle, size and name of all registered texts"),
     [&env, command] { return list(env, *command); });
  CLI::App* show_command = context->add_subcommand(
      "show", "Print what a cloud can do with a registered text: guidance, and what its gate measured");
  show_command->add_option("HANDLE", command->handle, "Handle printed by 'put'")->required();
  on(show_command, [&env, command] { return show(env, *command); });
  CLI::App* advise = context->add_subcommand(
      "advise", "Look at example requests: print what to register, and where text that changes should go");
  advise->add_option("FILE", command->examples, "Chat requests as JSON: one, a list of them, or one on each line")
      ->required();
  advise->add_option("--out", command->out_folder, "Folder in which to write the texts to register");
  advise->callback([&env, command] {
    env.action = [&env, command] {
      const Status status = advise_contexts(env, command->examples, command->out_folder);
      return status ? kExitFine : failed(env, status.error());
    };
  });
  CLI::App* rm = context->add_subcommand("rm", "Remove a registration");
  rm->add_option("HANDLE", command->handle, "Handle printed by 'put'")->required();
  on(rm, [command] { return remove(*command); });
}

}  // namespace celslm
