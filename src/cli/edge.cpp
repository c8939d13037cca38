// celslm edge: the OpenAI API over a small model on this machine.
#include "cli/edge.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/edge_options.h"
#include "cli/foreign_options.h"
#include "cli/serving.h"
#include "cli/terminal/model_files.h"
#include "cli/terminal/model_loading.h"
#include "core/memory_limit.h"
#include "core/process_memory.h"
#include "model/constraint/constraint_host.h"
#include "net/budgeted_client.h"
#include "net/http_client.h"
#include "serve/batch/compute_speed.h"
#include "serve/edge/edge_service.h"
#include "serve/route/node_watch.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;

constexpr auto kStopGrace = 10s;  // for answers under way when the edge is asked to stop

constexpr const char* kDescription =
    "Answer OpenAI API requests with a small model; the KV cache of long texts that requests share is fetched from a cloud "
    "instead of being computed here";

constexpr const char* kExamples = R"(Examples:
  celslm edge --model qwen2.5-0.5b-q4_0.gguf --cloud http://cloud:8081
      answers on port 8080; registered contexts come from the cloud
  celslm edge --model small.gguf --context manual.txt
      no cloud: the context is computed here, once for all users
  curl http://127.0.0.1:8080/v1/chat/completions -d '{"messages": [{"role": "user", "content": "Hello"}]}'
)";

Result<std::filesystem::path> data_folder(const Environment& env, const EdgeCommand& command) {
  std::filesystem::path out = command.data_folder;
  if (out.empty()) {
    CELSLM_TRY(out, default_data_folder(env));
  }
  out /= "edge";
  std::error_code error;
  std::filesystem::create_directories(out, error);
  if (error)
    return fail(ErrorKind::kIo, "{}: cannot create the data folder: {} (choose another one with --data)", out.string(),
                error.message());
  return out;
}

// One key file per cloud, so that an edge may change its cloud and come back.
std::filesystem::path key_file(const std::filesystem::path& folder, const std::string& url) {
  return folder / ("cloud-key-" + hash_of(url).hex().substr(0, 16));
}

// budget: what the calls are paid from; null: nothing.
Result<std::unique_ptr<HttpClient>> budgeted_client(const CloudAccess& access, const std::string& url,
                                                    const std::string& token_file,
                                                    const std::shared_ptr<ByteBudget>& budget) {
  CELSLM_TRY(auto client, connect({.base_url = url,
                                   .ca_file = access.ca_file,
                                   .token_in_clear = access.token_in_clear,
                                   .certificate_file = access.certificate.certificate_file,
                                   .key_file = access.certificate.key_file},
                                  token_file));
  if (!budget) return client;
  return std::make_unique<BudgetedClient>(std::move(client), budget);
}

Result<std::shared_ptr<CloudClient>> make_cloud(const CloudAccess& access, const std::filesystem::path& folder,
                                                const std::shared_ptr<ByteBudget>& budget, const Log& log) {
  if (access.url.empty()) return std::shared_ptr<CloudClient>();
  CELSLM_TRY(auto http, budgeted_client(access, access.url, access.token_file, budget));
  std::optional<PublicKey> pinned;
  if (!access.public_key.empty()) {
    CELSLM_TRY(pinned, PublicKey::from_hex(access.public_key));
  }
  return std::make_shared<CloudClient>(std::move(http), pinned, key_file(folder, access.url), log);
}

Result<std::vector<std::shared_ptr<CloudClient>>> make_neighbours(const CloudAccess& access,
                                                                  const std::shared_ptr<CloudClient>& cloud,
                                                                  const std::shared_ptr<ByteBudget>& budget,
                                                                  const Log& log) {
  std::vector<std::shared_ptr<CloudClient>> out;
  if (!access.peers.empty() && !cloud)
    return fail(ErrorKind::kInvalid, "--peer needs --cloud: packs are checked against the cloud's key");
  for (const std::string& url : access.peers) {
    CELSLM_TRY(auto http, budgeted_client(access, url, access.peer_token_file, budget));
    out.push_back(std::make_shared<CloudClient>(std::move(http), cloud, log));
  }
  return out;
}

// Null: there are none.
Result<std::shared_ptr<NodeWatch>> make_watch(const CloudAccess& access, const Model& model, const Clock& clock,
                                              const std::shared_ptr<ByteBudget>& budget, const Log& log) {
  std::vector<WatchedNode> nodes;
  for (const std::string& url : access.neighbors) {
    CELSLM_TRY(auto http, budgeted_client(access, url, access.neighbor_token_file, budget));
    nodes.push_back({.client = std::move(http), .node = RouteClass::kNeighbour});
  }
  if (!access.large.empty()) {
    CELSLM_TRY(auto http, budgeted_client(access, access.large, access.large_token_file, budget));
    nodes.push_back({.client = std::move(http), .node = RouteClass::kLargeModel});
  }
  if (nodes.empty()) return nullptr;
  if (nodes.size() > kMaxWatchedNodes)
    return fail(ErrorKind::kInvalid, "{} nodes given with --neighbor and --large: at most {} are possible", nodes.size(),
                kMaxWatchedNodes);
  auto out = std::make_shared<NodeWatch>(std::move(nodes), model.fingerprint().id(), clock, WatchOptions(), log);
  out->start();
  return out;
}

// A client of a node out of the directory, whose address is not this user's word. The token goes only to a server with a
// certificate of the authority that the user named.
ConnectNode connect_node(const CloudAccess& access, const std::shared_ptr<CloudClient>& cloud,
                         const std::shared_ptr<ByteBudget>& budget, const Log& log) {
  return [=](const NodeRecord& node) -> Result<std::shared_ptr<CloudClient>> {
    const std::string& token = node.role == NodeRole::kCloud ? access.token_file : access.peer_token_file;
    const bool is_known = node.url.starts_with("https://") && !access.ca_file.empty();
    CELSLM_TRY(auto http, budgeted_client(access, node.url, is_known ? token : "", budget));
    return std::make_shared<CloudClient>(std::move(http), cloud, log);
  };
}

void log_memory(spdlog::logger& log, const EdgeOptions& options, const ProcessMemory& process) {
  const auto megabytes = [](std::uint64_t bytes) { return static_cast<double>(bytes) / 1e6; };
  const MemoryLedger& memory = *options.batch.memory;
  log.info("memory: {:.0f} MB in all, {:.0f} MB in use, up to {:.0f} MB for contexts and {:.0f} MB for requests",
           megabytes(memory.limit_bytes()), megabytes(process.bytes()), megabytes(options.context_budget_bytes),
           megabytes(options.batch.kv_budget_bytes));
  if (process.bytes() > memory.limit_bytes() / 8 * 7)
    log.warn("program and model leave {:.0f} MB of {:.0f}: take a smaller model, or allow more with --memory",
             megabytes(memory.limit_bytes() - std::min(memory.limit_bytes(), process.bytes())),
             megabytes(memory.limit_bytes()));
}

// libllama takes the memory for KV when its engine is made, and the ledger counts what is used of it.
Result<std::unique_ptr<Engine>> make_engine(const EdgeCommand& command, const EdgeParts& parts, EdgeOptions& options) {
  EngineOptions engine{.n_threads = command.n_threads};
  if (!parts.model->foreign()) return Engine::create(parts.model, engine);
  divide_memory(options, std::max<std::uint64_t>(parts.process->bytes(), parts.model->weight_bytes()));
  const ForeignMemory memory = foreign_memory(command, *parts.model, options);
  engine.foreign = memory.limits;
  CELSLM_TRY(auto out, Engine::create(parts.model, engine));
  parts.process->counted_elsewhere(memory.kv_bytes);
  parts.log->info("libllama has memory for the KV of {} tokens in {} sequences", memory.limits.n_tokens,
                  memory.limits.n_sequences);
  return out;
}

Status run_edge(Environment& env, const EdgeCommand& command, const HttpServerOptions& server, const ChangeEngine& change) {
  CELSLM_TRY(const Log log, stderr_log("edge", command.log_level));
  CELSLM_TRY(EdgeOptions options, complete_options(command));
  configure_heap();
  options.batch.memory = std::make_shared<MemoryLedger>(memory_limit_of(command));
  CELSLM_TRY(const auto folder, data_folder(env, command));
  CELSLM_TRY(auto fleet, fleet_parts(command.directory, command.listen.host));
  if (fleet && command.cloud.url.empty())
    return fail(ErrorKind::kInvalid, "--directory needs --cloud: what other nodes have is checked against the cloud's key");
  EdgeParts parts{.clock = &env.clock, .log = log};
  std::shared_ptr<ByteBudget> budget;
  if (command.cloud.max_bytes_per_hour != UINT64_MAX)
    budget = std::make_shared<ByteBudget>(command.cloud.max_bytes_per_hour, env.clock, log);
  options.load.budget = budget;
  CELSLM_TRY(options.audit, open_audit(command.listen, "edge", env.clock, log));
  CloudAccess access = command.cloud;
  access.certificate = client_certificate(command);
  CELSLM_TRY(parts.cloud, make_cloud(access, folder, budget, log));
  CELSLM_TRY(parts.peers, make_neighbours(access, parts.cloud, budget, log));
  parts.fleet = std::move(fleet);
  parts.connect_node = connect_node(access, parts.cloud, budget, log);
  CELSLM_TRY(auto store, PackStore::open(folder / "packs", command.pack_budget_bytes, log, true));
  parts.process = std::make_shared<ProcessMemory>(*options.batch.memory);
  parts.store = std::move(store);
  parts.known_contexts = folder / ("contexts-" + hash_of(command.cloud.url).hex().substr(0, 16));
  CELSLM_TRY(parts.model,
             load_model(env, command.model_file, {folder.parent_path() / "weights", log, true}, command.device));
  if (parts.model->foreign()) {
    CELSLM_CHECK_OK(check_foreign(command));
    log->info("{}: libllama runs the model (docs/foreign-models.md)", parts.model->foreign_reason());
  }
  CELSLM_TRY(options.load.codecs, codecs_for(command.codec, *parts.model));
  CELSLM_TRY(options.load.tuning, tuning_for(command, *parts.model));
  CELSLM_TRY(options.routing.cascade, cascade_for(command, *parts.model));
  CELSLM_TRY(auto watch, make_watch(access, *parts.model, env.clock, budget, log));
  if (watch) parts.nodes.push_back(std::move(watch));
  CELSLM_TRY(const auto vocabulary, find_model_file(env, command.model_file));
  parts.constraints = std::make_shared<ConstraintHost>(
      ConstraintHostOptions{.command = {"/proc/self/exe", kConstraintHostCommand, vocabulary.string()}}, env.clock, log);
  parts.process->model_loaded();
  CELSLM_TRY(auto engine, make_engine(command, parts, options));
  parts.engine = change(std::move(engine));
  // Without a cloud nothing depends on the result, but the engine then has the memory that it works with.
  CELSLM_CHECK_OK(measure_layer_speed(*parts.engine, env.clock));
  // Pages of the model come into memory with use: all of them are to be counted on.
  divide_memory(options, std::max<std::uint64_t>(parts.process->bytes(), parts.model->weight_bytes()));
  log_memory(*log, options, *parts.process);
  CELSLM_TRY(const auto edge, EdgeService::create(std::move(parts), options));
  const Served served{.page = PageOf::kEdge,
                      .audit = options.audit,
                      .add_routes = [&](HttpServer& http) { edge->add_routes(http); },
                      .started = [&](const std::string& url) { edge->started(url); },
                      .drain =
                          [&] {
                            log->info("finishing {} requests", edge->requests_under_way());
                            edge->drain(kStopGrace);
                          }};
  HttpServerOptions counted = server;
  counted.memory = options.batch.memory;
  return serve_until_signal(env, served, counted, kStopGrace, log);
}

}  // namespace

void add_edge(CLI::App& app, Environment& env) {
  add_edge_with(app, env, [](std::unique_ptr<Engine> engine) { return engine; });
}

void add_edge_with(CLI::App& app, Environment& env, const ChangeEngine& change) {
  auto command = std::make_shared<EdgeCommand>();
  CLI::App* edge = app.add_subcommand("edge", kDescription);
  add_edge_options(*edge, *command);
  edge->footer(kExamples);
  edge->callback([command, &env, change] {
    env.action = [command, &env, change] {
      return run_server(env, command->listen,
                        [&](const HttpServerOptions& server) { return run_edge(env, *command, server, change); });
    };
  });
}

}  // namespace celslm
