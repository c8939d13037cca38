// celslm cloud: hosts models, computes packs of registered contexts and serves them.
#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "cli/listen_options.h"
#include "cli/serving.h"
#include "cli/terminal/model_loading.h"
#include "serve/cloud/cloud_service.h"
#include "serve/cloud/mapped_producer.h"
#include "serve/cloud/model_producer.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;

constexpr int kDefaultPort = 8081;
constexpr auto kStopGrace = 5s;    // for answers under way when the cloud is told to stop
constexpr int kConnections = 256;  // every edge keeps a few open, and one that waits for entries holds a thread

constexpr const char* kExamples = R"(Examples:
  celslm cloud --model qwen2.5-0.5b-q4_0.gguf
      serves this machine on port 8081
  celslm cloud --model small.gguf --model large.gguf --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem --token-file token
      serves other machines, too
  celslm cloud --model small.gguf --port 0
      takes any free port; standard output says which: "listening on http://127.0.0.1:40213"
)";

struct CloudCommand {
  std::vector<std::string> models;
  std::vector<std::string> maps;
  ListenOptions listen;
  std::string data;
  std::uint64_t pack_budget = 20ULL << 30;
  std::vector<std::string> codecs;
  int threads = 0;
  std::string log_level = "info";
};

Result<std::shared_ptr<const Model>> model_of(const MapModel& wanted, const char* side,
                                              const std::vector<std::shared_ptr<const Model>>& models) {
  for (const auto& model : models) {
    if (model->fingerprint().id() == wanted.id) return model;
  }
  return fail(ErrorKind::kMismatch, "the map's {} is model {}, which no --model here is", side, wanted.id.hex());
}

Result<std::shared_ptr<KvProducer>> load_map(const std::string& path,
                                             const std::vector<std::shared_ptr<const Model>>& models, int threads) {
  CELSLM_TRY(KvMap map, read_map(path));
  CELSLM_TRY(auto source, model_of(map.source, "source", models));
  CELSLM_TRY(auto target, model_of(map.target, "target", models));
  CELSLM_TRY(auto producer, MappedProducer::create(std::move(source), std::move(target), std::move(map),
                                                   {.engine = {.n_threads = threads}}));
  return std::shared_ptr<KvProducer>(std::move(producer));
}

Result<std::vector<std::shared_ptr<KvProducer>>> load_models(Environment& env, const CloudCommand& command) {
  std::vector<std::shared_ptr<KvProducer>> out;
  std::vector<std::shared_ptr<const Model>> models;
  for (const std::string& path : command.models) {
    CELSLM_TRY(models.emplace_back(), load_model(env, path));
    CELSLM_TRY(auto producer, ModelProducer::create(models.back(), {.n_threads = command.threads}));
    out.push_back(std::move(producer));
  }
  for (const std::string& path : command.maps) {
    auto producer = load_map(path, models, command.threads);
    if (!producer) return wrap(std::move(producer).error(), path);
    out.push_back(*std::move(producer));
  }
  return out;
}

Result<CloudOptions> cloud_options(const Environment& env, const CloudCommand& command) {
  CloudOptions out{.pack_budget_bytes = command.pack_budget};
  out.data_folder = command.data;
  if (command.data.empty()) {
    CELSLM_TRY(out.data_folder, default_data_folder(env));
  }
  out.data_folder /= "cloud";
  for (const std::string& name : command.codecs) {
    CELSLM_TRY(const Codec* codec, find_codec(name));
    out.codecs.push_back(codec->id());
  }
  return out;
}

Status run_cloud(Environment& env, const CloudCommand& command, HttpServerOptions server) {
  CELSLM_TRY(const Log log, stderr_log("cloud", command.log_level));
  CELSLM_TRY(const CloudOptions options, cloud_options(env, command));
  CELSLM_TRY(auto models, load_models(env, command));
  CELSLM_TRY(const auto service, CloudService::create(options, std::move(models), env.clock, log));
  server.max_body_bytes = kMaxCloudBodyBytes;
  server.n_threads = kConnections;
  log->info("{} registered contexts and packs of up to {:.1f} GB in {}", service->n_contexts(),
            static_cast<double>(options.pack_budget_bytes) / 1e9, options.data_folder.string());
  const Served served{.add_routes = [&](HttpServer& http) { service->add_routes(http); },
                      .wind_down = [&] { service->shutdown(); }};
  return serve_until_signal(env, served, server, kStopGrace, log);
}

}  // namespace

void add_cloud(CLI::App& app, Environment& env) {
  auto command = std::make_shared<CloudCommand>();
  CLI::App* cloud = app.add_subcommand("cloud", "Host models: register contexts, compute their KV once, serve it to edges");
  cloud->add_option("--model,-m", command->models, "GGUF to host; may be given several times")
      ->required()
      ->expected(1)
      ->take_all();
  cloud
      ->add_option(
          "--map", command->maps,
          "Layer map that passed its gate: edges of its small model may read contexts through its large one, both of "
          "which must be among the --model; may be given several times")
      ->expected(1)
      ->take_all();
  add_listen_options(*cloud, command->listen, kDefaultPort);
  cloud->add_option("--data", command->data,
                    "Folder for contexts, packs and the signing key (default: $XDG_DATA_HOME/celslm)");
  cloud
      ->add_option("--pack-budget", command->pack_budget,
                   "Disk space for packs, e.g. 20GB; the least recently used go first")
      ->transform(CLI::AsSizeValue(false))
      ->default_str("20GB");
  cloud->add_option("--codec", command->codecs, "Codec to offer; may be given several times (default: all)")
      ->expected(1)
      ->take_all();
  cloud->add_option("--threads,-t", command->threads, "Threads per model (default: one per core)")
      ->check(CLI::Range(0, 1024));
  add_log_option(*cloud, command->log_level);
  cloud->footer(kExamples);
  cloud->callback([command, &env] {
    env.action = [command, &env] {
      return run_server(env, command->listen,
                        [&](HttpServerOptions server) { return run_cloud(env, *command, std::move(server)); });
    };
  });
}

}  // namespace celslm
