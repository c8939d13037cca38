// celslm edge: the OpenAI API over a small model on this box.
#include <unistd.h>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "cli/listen_options.h"
#include "cli/serving.h"
#include "cli/terminal/model_loading.h"
#include "core/file.h"
#include "net/http_client.h"
#include "serve/edge/edge_service.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;

constexpr int kDefaultPort = 8080;
constexpr std::size_t kMaxQualityBytes = 4U << 20;  // a dozen lines a model
constexpr auto kStopGrace = 10s;                    // for answers under way when the edge is told to stop
constexpr int kConnections = 192;                   // requests that run or wait each hold one; more are refused

constexpr const char* kExamples = R"(Examples:
  celslm edge --model qwen2.5-0.5b-q4_0.gguf --cloud http://cloud:8081
      answers on port 8080; registered contexts come from the cloud
  celslm edge --model small.gguf --context manual.txt
      no cloud: the context is computed here, once for all users
  curl http://127.0.0.1:8080/v1/chat/completions -d '{"messages": [{"role": "user", "content": "Hello"}]}'
)";

struct EdgeCommand {
  std::string model;
  std::string model_name;
  std::string cloud;
  std::string cloud_key;
  std::string cloud_ca;
  std::string cloud_token_file;
  std::vector<std::string> contexts;
  std::string data;
  std::uint64_t pack_budget = 8ULL << 30;
  std::uint64_t context_budget = 4ULL << 30;
  std::string codec = "auto";
  std::string codec_quality;
  double least_agreement = 0.99;
  int prefetch = 0;
  bool refine = false;
  std::string guidance = "none";
  std::string context_kv = "f16";
  int threads = 0;
  int connections = 4;
  std::uint64_t kv_budget = 0;
  bool no_reuse = false;
  int max_stall_ms = 100;
  std::vector<std::string> peers;
  std::string peer_token_file;
  Prefer prefer = Prefer::kLatency;
  int max_compute = 100;
  std::uint64_t max_bytes_per_hour = UINT64_MAX;
  int max_users = 32;
  int max_queue = 128;
  ListenOptions listen;
  std::string log_level = "info";
};

Result<std::filesystem::path> data_folder(const Environment& env, const EdgeCommand& command) {
  std::filesystem::path out = command.data;
  if (command.data.empty()) {
    CELSLM_TRY(out, default_data_folder(env));
  }
  out /= "edge";
  std::error_code error;
  std::filesystem::create_directories(out, error);
  if (error)
    return fail(ErrorKind::kIo, "{}: cannot make the data folder: {} (choose another with --data)", out.string(),
                error.message());
  return out;
}

// One key file per cloud, so that an edge may change its cloud and come back.
std::filesystem::path key_file(const std::filesystem::path& folder, const std::string& url) {
  return folder / ("cloud-key-" + hash_of(url).hex().substr(0, 16));
}

Result<std::shared_ptr<CloudClient>> make_cloud(const EdgeCommand& command, const std::filesystem::path& folder,
                                                const Log& log) {
  if (command.cloud.empty()) return std::shared_ptr<CloudClient>();
  HttpClientOptions http{.base_url = command.cloud, .ca_file = command.cloud_ca};
  if (!command.cloud_token_file.empty()) {
    CELSLM_TRY(http.bearer_token, read_token(command.cloud_token_file));
  }
  std::optional<PublicKey> pinned;
  if (!command.cloud_key.empty()) {
    CELSLM_TRY(pinned, PublicKey::from_hex(command.cloud_key));
  }
  CELSLM_TRY(auto client, make_http_client(http));
  return std::make_shared<CloudClient>(std::move(client), pinned, key_file(folder, command.cloud), log);
}

std::uint64_t physical_memory_bytes() {
  return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

Result<std::vector<std::shared_ptr<CloudClient>>> make_neighbours(const EdgeCommand& command,
                                                                  const std::shared_ptr<CloudClient>& cloud,
                                                                  const Log& log) {
  std::vector<std::shared_ptr<CloudClient>> out;
  if (!command.peers.empty() && !cloud)
    return fail(ErrorKind::kInvalid, "--peer needs --cloud: packs are checked against the cloud's key");
  for (const std::string& url : command.peers) {
    HttpClientOptions http{.base_url = url, .ca_file = command.cloud_ca};
    if (!command.peer_token_file.empty()) {
      CELSLM_TRY(http.bearer_token, read_token(command.peer_token_file));
    }
    CELSLM_TRY(auto client, make_http_client(http));
    out.push_back(std::make_shared<CloudClient>(std::move(client), cloud, log));
  }
  return out;
}

Result<EdgeOptions> edge_options(const EdgeCommand& command) {
  EdgeOptions out{.model_name = command.model_name,
                  .context_budget_bytes = command.context_budget,
                  .n_connections = command.connections,
                  .max_prefetched = command.prefetch,
                  .refine = command.refine,
                  .mapped = command.guidance == "mapped",
                  .prefer = command.prefer,
                  .max_compute_percent = command.max_compute,
                  .max_bytes_per_hour = command.max_bytes_per_hour,
                  .batch = {.max_running = command.max_users,
                            .max_queued = command.max_queue,
                            .kv_budget_bytes = command.kv_budget,
                            .reuse_prefixes = !command.no_reuse,
                            .max_stall = std::chrono::milliseconds(command.max_stall_ms)}};
  if (command.kv_budget == 0) out.batch.kv_budget_bytes = physical_memory_bytes() / 4;
  CELSLM_TRY(out.kv_type, kv_type_from(command.context_kv));
  out.batch.kv_type = out.kv_type;
  for (const std::string& path : command.contexts) {
    CELSLM_TRY(const Bytes text, read_file(path, kMaxContextBytes));
    out.contexts.emplace_back(as_text(text));
  }
  return out;
}

// The codec that was named, or all whose damage to this model is known to be small enough.
Result<CodecLadder> make_ladder(const EdgeCommand& command, const Model& model) {
  if (command.codec != "auto") {
    CELSLM_TRY(const Codec* codec, find_codec(command.codec));
    return CodecLadder::only(*codec);
  }
  if (command.codec_quality.empty()) return CodecLadder::only(**find_codec(CodecId::kF16));
  CELSLM_TRY(const Bytes json, read_file(command.codec_quality, kMaxQualityBytes));
  auto ladder = CodecLadder::from_measurements(as_text(json), model.fingerprint().id(), command.least_agreement);
  if (!ladder) return wrap(std::move(ladder).error(), command.codec_quality);
  return ladder;
}

Status run_edge(Environment& env, const EdgeCommand& command, HttpServerOptions server) {
  CELSLM_TRY(const Log log, stderr_log("edge", command.log_level));
  CELSLM_TRY(EdgeOptions options, edge_options(command));
  CELSLM_TRY(const auto folder, data_folder(env, command));
  EdgeParts parts{.clock = &env.clock, .log = log};
  CELSLM_TRY(parts.cloud, make_cloud(command, folder, log));
  CELSLM_TRY(parts.neighbours, make_neighbours(command, parts.cloud, log));
  CELSLM_TRY(auto store, PackStore::open(folder / "packs", command.pack_budget, log, true));
  parts.store = std::move(store);
  CELSLM_TRY(parts.model, load_model(env, command.model));
  CELSLM_TRY(options.codecs, make_ladder(command, *parts.model));
  CELSLM_TRY(parts.engine, Engine::create(parts.model, {.n_threads = command.threads}));
  CELSLM_TRY(const auto edge, EdgeService::create(std::move(parts), options));
  server.n_threads = kConnections;
  const Served served{.add_routes = [&](HttpServer& http) { edge->add_routes(http); },
                      .wind_down =
                          [&] {
                            log->info("finishing {} requests", edge->requests_under_way());
                            edge->drain(kStopGrace);
                          }};
  return serve_until_signal(env, served, server, kStopGrace, log);
}

void add_model_options(CLI::App& edge, EdgeCommand& command) {
  edge.add_option("--model,-m", command.model, "GGUF to answer with")->required();
  edge.add_option("--name", command.model_name, "What clients call the model (default: the name in the GGUF)");
  edge.add_option("--threads,-t", command.threads, "Threads (default: one per core)")->check(CLI::Range(0, 1024));
  edge.add_option("--max-users", command.max_users, "Requests answered at once")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  edge.add_option("--max-queue", command.max_queue, "Requests that may wait; more get 429")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  edge.add_option("--kv-budget", command.kv_budget,
                  "Memory for requests' own KV, e.g. 2GB (default: a quarter of this machine's); beyond it, requests wait")
      ->transform(CLI::AsSizeValue(false));
  edge.add_flag(
      "--no-reuse", command.no_reuse,
      "Do not keep ended conversations' KV for requests that continue them (answers then never differ by rounding)");
  edge.add_option("--max-stall", command.max_stall_ms,
                  "Milliseconds that others' prompts may add to the time between two tokens of an answer")
      ->check(CLI::Range(1, 60'000))
      ->capture_default_str();
  edge.add_option("--context-kv", command.context_kv,
                  "Contexts' KV in memory: f16, bf16 or f32 (with an exact codec: the codec's), or q8: about half of f16")
      ->capture_default_str();
  edge.add_option("--context-budget", command.context_budget, "Memory for contexts' KV, e.g. 4GB")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
}

void add_cloud_options(CLI::App& edge, EdgeCommand& command) {
  edge.add_option("--cloud", command.cloud, "The cloud's URL; without one, contexts are computed here");
  edge.add_option("--cloud-key", command.cloud_key,
                  "The cloud's public key (default: trust the first one it shows, and keep it)");
  edge.add_option("--cloud-ca", command.cloud_ca, "PEM file of the authority that signed the cloud's certificate");
  edge.add_option("--cloud-token-file", command.cloud_token_file, "File with the token that the cloud asks for");
  edge.add_option("--context", command.contexts,
                  "Text file that requests here share, without any cloud; may be given several times")
      ->expected(1)
      ->take_all();
  edge.add_option(
          "--codec", command.codec,
          "How packs come: f16 or bf16 (exact), q8, t4, t3, t2 (about 8.5, 4, 3, 2 bits a value); auto: the one by which "
          "a context is here soonest, of those that --codec-quality shows to be good enough, or f16")
      ->capture_default_str();
  edge.add_option(
      "--codec-quality", command.codec_quality,
      "What each codec does to this model's answers: the file that './dev bench codec --model GGUF --json FILE' writes");
  edge.add_option("--least-agreement", command.least_agreement,
                  "Share of greedy tokens that a codec must leave as they are to be chosen by itself")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  edge.add_flag("--refine", command.refine, "Once idle, fetch exact KV in place of what came by an approximate codec");
  edge.add_option("--prefetch", command.prefetch, "Load up to this many registered contexts before anyone asks, while idle")
      ->check(CLI::Range(0, 100'000))
      ->capture_default_str();
  edge.add_option("--guidance", command.guidance,
                  "mapped: read contexts through the cloud's larger model, where it has a map that passed its gate; none: "
                  "as this model reads them by itself (mapped KV is another answer, so it is asked for)")
      ->check(CLI::IsMember({"none", "mapped"}))
      ->capture_default_str();
  edge.add_option("--connections", command.connections, "Connections per pack")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  edge.add_option("--peer", command.peers, "A neighbouring edge's URL; its packs are read, too; may be given several times")
      ->expected(1)
      ->take_all();
  edge.add_option("--peer-token-file", command.peer_token_file, "File with the token that neighbours ask for");
  const std::map<std::string, Prefer> preferences{
      {"latency", Prefer::kLatency}, {"energy", Prefer::kEnergy}, {"bytes", Prefer::kBytes}};
  edge.add_option("--prefer", command.prefer,
                  "What to save when a context is loaded: latency (fetch and compute), energy (compute only what nobody "
                  "gives) or bytes (fetch only what may not be computed)")
      ->transform(CLI::CheckedTransformer(preferences))
      ->default_str("latency");
  edge.add_option("--max-compute", command.max_compute,
                  "Of a context's layers, how many percent may be computed here while a source could give them")
      ->check(CLI::Range(0, 100))
      ->capture_default_str();
  edge.add_option("--max-bytes-per-hour", command.max_bytes_per_hour,
                  "Bytes to fetch over the network in an hour, e.g. 10GB")
      ->transform(CLI::AsSizeValue(false))
      ->default_str("no limit");
  edge.add_option("--data", command.data, "Folder for packs and the cloud's key (default: $XDG_DATA_HOME/celslm)");
  edge.add_option("--pack-budget", command.pack_budget, "Disk space for packs, e.g. 8GB; the least recently used go first")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
}

}  // namespace

void add_edge(CLI::App& app, Environment& env) {
  auto command = std::make_shared<EdgeCommand>();
  CLI::App* edge = app.add_subcommand("edge", "Answer users with a small model; shared contexts come from a cloud");
  add_model_options(*edge, *command);
  add_cloud_options(*edge, *command);
  add_listen_options(*edge, command->listen, kDefaultPort);
  add_log_option(*edge, command->log_level);
  edge->footer(kExamples);
  edge->callback([command, &env] {
    env.action = [command, &env] {
      return run_server(env, command->listen,
                        [&](HttpServerOptions server) { return run_edge(env, *command, std::move(server)); });
    };
  });
}

}  // namespace celslm
