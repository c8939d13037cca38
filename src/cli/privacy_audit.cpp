// celslm privacy-audit: what an edge sends while it answers, and whether that depends on what it is asked.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <ostream>
#include <random>

#include "cli/audit/audited_edge.h"
#include "cli/audit/isolation.h"
#include "cli/audit/report.h"
#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/terminal/model_files.h"
#include "cli/terminal/option_kinds.h"
#include "core/file.h"
#include "core/json.h"
#include "serve/wire/protocol.h"

namespace celslm {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr int kExitLeak = 3;
constexpr const char* kPromised = "edge-only";  // the policy under which nothing of the user's may leave the edge

constexpr const char* kExamples = R"(Examples:
  celslm privacy-audit --model qwen2.5-0.5b-q4_0.gguf
      starts a cloud and edges on this machine and asks them marked questions; exit code 0: what they sent did not depend on
      the questions, 3: it did, and the findings tell what was sent to whom
  celslm privacy-audit --model small.gguf --json report.json -- --codec f16 --prefer energy
      the same with these options for the edges; everything that was sent is in report.json
  celslm privacy-audit --model small.gguf --cloud http://127.0.0.1:8081 --policy edge-only --policy fleet
      with a cloud that runs already; of other policies than edge-only it reports what is sent to whom
)";

struct AuditCommand {
  std::string model;
  std::string cloud;
  std::string token_file;
  std::vector<std::string> peers;
  std::string context_file;
  std::vector<std::string> policies;
  std::vector<std::string> kinds;  // of texts; empty: all
  int rounds = 2;
  std::string program = "/proc/self/exe";
  bool not_isolated = false;
  std::string json_file;
  std::vector<std::string> edge_flags;
};

// A folder that is gone, with all in it, at the end.
class TemporaryFolder {
 public:
  static Result<TemporaryFolder> make() {
    std::string path = (fs::temp_directory_path() / "celslm-audit-XXXXXX").string();
    if (::mkdtemp(path.data()) == nullptr)
      return fail(ErrorKind::kIo, "cannot make a folder in {}", fs::temp_directory_path().string());
    return TemporaryFolder(path);
  }
  TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }
  fs::path keep() { return std::exchange(path_, {}); }

 private:
  explicit TemporaryFolder(fs::path path) : path_(std::move(path)) {}
  fs::path path_;
};

// A context at the cloud, removed at the end unless it was there before.
class RegisteredContext {
 public:
  static Result<std::unique_ptr<RegisteredContext>> put(std::shared_ptr<HttpClient> cloud, const std::string& text) {
    CELSLM_TRY(const HttpAnswer before, cloud->call({.path = "/v1/contexts", .stall_timeout = kPatience}));
    CELSLM_TRY(const HttpAnswer answer, cloud->call({.method = "POST",
                                                     .path = "/v1/contexts",
                                                     .body = dump_json({{"text", text}}),
                                                     .timeout = kPatience,
                                                     .stall_timeout = kPatience}));
    if (answer.status != 200)
      return fail(ErrorKind::kUnavailable, "{} answered {} to the registration of a context: {}", cloud->base_url(),
                  answer.status, as_text(answer.body).substr(0, 300));
    CELSLM_TRY(const json body, parse_object(as_text(answer.body)));
    CELSLM_TRY(const std::string handle, JsonFields(body).required_text("id"));
    const bool was_there = as_text(before.body).contains(handle);
    return std::unique_ptr<RegisteredContext>(new RegisteredContext(std::move(cloud), handle, was_there));
  }
  ~RegisteredContext() {
    if (!was_there_) static_cast<void>(cloud_->call({.method = "DELETE", .path = "/v1/contexts/" + handle_}));
  }
  RegisteredContext(const RegisteredContext&) = delete;
  RegisteredContext& operator=(const RegisteredContext&) = delete;
  const std::string& handle() const { return handle_; }

 private:
  static constexpr std::chrono::milliseconds kPatience{60'000};
  RegisteredContext(std::shared_ptr<HttpClient> cloud, std::string handle, bool was_there)
      : cloud_(std::move(cloud)), handle_(std::move(handle)), was_there_(was_there) {}
  const std::shared_ptr<HttpClient> cloud_;
  const std::string handle_;
  const bool was_there_;
};

class PrivacyAudit {
 public:
  PrivacyAudit(Environment& env, const AuditCommand& command, const fs::path& folder)
      : env_(env), command_(command), folder_(folder), random_(std::random_device()()) {}

  Result<AuditReport> run() {
    CELSLM_CHECK_OK(find_program());
    CELSLM_CHECK_OK(find_servers());
    CELSLM_CHECK_OK(register_contexts());
    audit_.isolated = !command_.not_isolated;
    audit_.clock = &env_.clock;
    AuditReport out{.isolated = audit_.isolated, .edge_flags = audit_.edge_flags};
    // Afterwards the cloud has computed what it will be asked for, so that all that are compared find it in the same state.
    CELSLM_TRY(const auto first, edges("first", kPromised, 1));
    for (const std::string& policy : command_.policies) {
      CELSLM_TRY(out.policies.emplace_back(), audited(policy));
    }
    return out;
  }

 private:
  Status find_program() {
    std::error_code error;
    audit_.program = fs::canonical(command_.program, error).string();
    if (error) return fail(ErrorKind::kNotFound, "{}: {}", command_.program, error.message());
    CELSLM_TRY(const fs::path model, find_model_file(env_, command_.model));
    model_ = fs::absolute(model).string();
    audit_.edge_flags = {"--model", model_};
    if (!command_.token_file.empty())
      audit_.edge_flags.insert(audit_.edge_flags.end(), {"--cloud-token-file", command_.token_file});
    audit_.edge_flags.insert(audit_.edge_flags.end(), command_.edge_flags.begin(), command_.edge_flags.end());
    return {};
  }

  Status find_servers() {
    cloud_url_ = command_.cloud;
    if (cloud_url_.empty()) {
      const std::string log = (folder_ / "cloud.log").string();
      CELSLM_TRY(StartedProgram started, start_program({audit_.program, "cloud", "--model", model_, "--host", "127.0.0.1",
                                                        "--port", "0", "--data", (folder_ / "cloud").string()},
                                                       log, {.isolated = false}));
      cloud_.emplace(std::move(started.program));
      auto url = cloud_->wait_listening();
      if (!url) return fail(url.error().kind, "the cloud cannot be started: {} (its log: {})", url.error().message, log);
      cloud_url_ = *url;
    }
    CELSLM_TRY(audit_.servers.emplace_back(), audited_server("cloud", cloud_url_));
    for (const std::string& peer : command_.peers) {
      CELSLM_TRY(audit_.servers.emplace_back(), audited_server(fmt::format("peer {}", audit_.servers.size()), peer));
    }
    return {};
  }

  Status register_contexts() {
    contexts_ = made_up_contexts(random_mark(random_));
    if (!command_.context_file.empty()) {
      CELSLM_TRY(const Bytes text, read_file(command_.context_file, kMaxContextBytes));
      contexts_.shared = as_text(text);
    }
    CELSLM_TRY(std::shared_ptr<HttpClient> cloud, connect({.base_url = cloud_url_}, command_.token_file));
    for (const std::string& text : {contexts_.warm_up, contexts_.shared}) {
      CELSLM_TRY(registered_.emplace_back(), RegisteredContext::put(cloud, text));
      audit_.contexts.push_back(registered_.back()->handle());
    }
    return {};
  }

  // Edges one after the other, one for each kind of script in each round.
  Result<std::vector<AuditedRun>> edges(const std::string& name, const std::string& policy, std::size_t most) {
    std::vector<AuditedRun> out;
    for (int round = 0; round < command_.rounds; ++round) {
      for (AuditScript& script : audit_scripts(contexts_, policy, random_)) {
        if (!command_.kinds.empty() && std::ranges::find(command_.kinds, script.name) == command_.kinds.end()) continue;
        if (out.size() == most) return out;
        if (env_.signals.stop().stop_requested()) return fail(ErrorKind::kCancelled, "stopped");
        env_.err << fmt::format("{}: edge {}, {} texts\n", name, out.size() + 1, script.name) << std::flush;
        const fs::path folder = folder_ / fmt::format("{}-{}", name, out.size() + 1);
        CELSLM_TRY(out.emplace_back(), audit_edge(audit_, std::move(script), folder));
        std::error_code ignored;
        fs::remove_all(folder, ignored);
      }
    }
    return out;
  }

  Result<AuditedPolicy> audited(const std::string& policy) {
    AuditedPolicy out{.policy = policy, .judged = policy == kPromised};
    CELSLM_TRY(out.runs, edges(policy, policy, SIZE_MAX));
    out.findings = secrets_sent(out.runs);
    std::ranges::move(sent_elsewhere(out.runs), std::back_inserter(out.findings));
    if (out.judged) std::ranges::move(differences(out.runs), std::back_inserter(out.findings));
    return out;
  }

  Environment& env_;
  const AuditCommand& command_;
  const fs::path folder_;
  std::mt19937_64 random_;
  std::string model_;
  std::string cloud_url_;
  EdgeAudit audit_;
  AuditContexts contexts_;
  std::optional<IsolatedProgram> cloud_;
  std::vector<std::unique_ptr<RegisteredContext>> registered_;
};

Result<AuditReport> audit(Environment& env, const AuditCommand& command) {
  CELSLM_TRY(TemporaryFolder folder, TemporaryFolder::make());
  env.signals.arm();
  auto report = PrivacyAudit(env, command, folder.path()).run();
  if (!report) folder.keep();  // for the logs that the message names
  return report;
}

int run_audit(Environment& env, const AuditCommand& command) {
  if (command.kinds.size() == 1 && command.rounds == 1)
    return misused(env, "--texts: one kind, asked once, cannot be compared with anything: give two kinds, or --rounds 2");
  const auto report = audit(env, command);
  if (!report) {
    const bool refused = report.error().message.contains("namespace") && !command.not_isolated;
    return failed(env, refused
                           ? Error{report.error().kind, report.error().message +
                                                            " (--not-isolated audits without, and then does not see what "
                                                            "goes elsewhere than to cloud and neighbours)"}
                           : report.error());
  }
  env.out << to_text(*report) << std::flush;
  if (!command.json_file.empty()) {
    const Status written = write_file_atomically(command.json_file, as_bytes(dump_json(to_json(*report)) + "\n"));
    if (!written) return failed(env, written.error());
  }
  return report->leaks() ? kExitLeak : kExitFine;
}

void add_options(CLI::App& app, AuditCommand& command) {
  app.add_option("--model,-m", command.model, "GGUF file, or name of a kept model, that edges and cloud run")
      ->required()
      ->option_text("FILE REQUIRED");
  app.add_option("--cloud", command.cloud,
                 "URL of a cloud to use, http only; contexts are registered there for the time of the audit (default: one "
                 "that the audit starts)")
      ->option_text("URL");
  app.add_option("--cloud-token-file", command.token_file, "File with the bearer token for the cloud")->option_text("FILE");
  // Without further values behind the first: the library would take the '--' before the edges' options for their end.
  const auto add_each = [&app](const std::string& name, auto& values, const std::string& kind, const std::string& help) {
    return add_list(app, name, values, kind, help)->allow_extra_args(false);
  };
  add_each("--peer", command.peers, "URL", "URL of a neighbour that the edges may fetch packs from, http only");
  app.add_option("--context", command.context_file, "Text that the questions are about (default: a made-up one)")
      ->option_text("FILE");
  add_each("--policy", command.policies, "NAME",
           "Policy of the requests (x_celslm.policy): edge-only, which is judged, fleet or cloud, of which is reported what "
           "is sent to whom (default: edge-only)")
      ->check(CLI::IsMember({"edge-only", "fleet", "cloud"}));
  add_number(app, "--rounds", command.rounds, 1, 100,
             "How often each kind of texts is asked, each time of an edge of its own");
  add_each("--texts", command.kinds, "KIND",
           "Kinds of texts that users write: short, long, code or foreign; at least two of them (default: all four)")
      ->check(CLI::IsMember({"short", "long", "code", "foreign"}));
  app.add_option("--program", command.program, "The celslm to audit (default: this one)")->option_text("FILE");
  app.add_flag(
      "--not-isolated", command.not_isolated,
      "Run the edges without a network namespace: what they send elsewhere than to cloud and neighbours is not seen");
  app.add_option("--json", command.json_file, "Write the report with everything that was sent to this file")
      ->option_text("FILE");
  app.add_option("EDGE_OPTIONS", command.edge_flags, "Behind '--': options for the edges, as 'celslm edge' takes them");
}

}  // namespace

void add_privacy_audit(CLI::App& app, Environment& env) {
  auto command = std::make_shared<AuditCommand>();
  CLI::App* audit = app.add_subcommand(
      "privacy-audit",
      "Record everything that edges send while they answer marked questions, and check that it does not depend on what they "
      "are asked. Exit code 3 if it does");
  audit->footer(kExamples);
  add_options(*audit, *command);
  audit->callback([command, &env] {
    if (command->policies.empty()) command->policies = {kPromised};
    env.action = [command, &env] { return run_audit(env, *command); };
  });
}

}  // namespace celslm
