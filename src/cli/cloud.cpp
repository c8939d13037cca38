// celslm cloud: hosts models, computes packs of registered contexts and serves them.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "align/study/study_engine.h"
#include "align/tuning/gate.h"
#include "cli/commands.h"
#include "cli/directory_options.h"
#include "cli/listen_options.h"
#include "cli/serving.h"
#include "cli/study/study.h"
#include "cli/terminal/model_loading.h"
#include "cli/terminal/option_kinds.h"
#include "core/memory_limit.h"
#include "net/http_client.h"
#include "serve/cloud/cloud_service.h"
#include "serve/cloud/mapped_producer.h"
#include "serve/cloud/model_producer.h"
#include "serve/cloud/state_producer.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;

constexpr int kDefaultPort = 8081;
constexpr auto kStopGrace = 5s;            // for answers under way when the cloud is asked to stop
constexpr int kMostStudyQuestions = 1024;  // of a context; the budget ends a study sooner

constexpr const char* kExamples = R"(Examples:
  celslm cloud --model qwen2.5-0.5b-q4_0.gguf
      serves edges on this machine, on port 8081
  celslm cloud --model small.gguf --model large.gguf --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem --token-file token
      hosts two models and serves edges on other machines, too
  celslm cloud --model small.gguf --host 0.0.0.0 --tls-cert cloud.pem --tls-key cloud.key --client-authority authority.pem \
      --keys keys.json
      the same by certificates ('celslm cert'): nodes fetch packs with theirs, people register texts with keys ('celslm key')
  celslm cloud --model small.gguf --port 0
      uses a free port and prints the address: "listening on http://127.0.0.1:40213"
)";

struct CloudCommand {
  std::vector<std::string> models;
  std::vector<std::string> maps;
  std::vector<std::string> tunings;
  std::string studied;
  DirectoryOptions directory;
  ListenOptions listen;
  std::string data;
  std::uint64_t pack_budget = 20ULL << 30;
  std::vector<std::string> codecs;
  int threads = 0;
  DeviceOptions device;
  int study_budget = 0;  // tokens of each context; 0: none is studied
  AskBy study_by = AskBy::kInstruction;
  std::string log_level = "info";
};

Result<std::shared_ptr<const Model>> model_of(const MapModel& wanted, const char* side,
                                              const std::vector<std::shared_ptr<const Model>>& models) {
  for (const auto& model : models) {
    if (model->fingerprint().id() == wanted.id) return model;
  }
  return fail(ErrorKind::kMismatch, "the map's {} model is {}, but no --model has that id: give its GGUF with --model, too",
              side, wanted.id.hex());
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

Result<std::shared_ptr<KvProducer>> load_tuning(const std::string& path,
                                                const std::vector<std::shared_ptr<const Model>>& models, int threads) {
  CELSLM_TRY(Tuning tuning, read_servable_tuning(path));
  const auto model =
      std::ranges::find_if(models, [&](const auto& each) { return each->fingerprint().id() == tuning.model; });
  if (model == models.end())
    return fail(ErrorKind::kMismatch, "{}: the tuning is for the model {}, but no --model has that id", path,
                tuning.model.hex());
  if (const Status fits = check_model(tuning, (*model)->fingerprint()); !fits) return wrap(fits.error(), path);
  CELSLM_TRY(auto producer,
             ModelProducer::create(*model, {.n_threads = threads},
                                   {.constants = std::make_shared<const KvTuning>(std::move(tuning.constants)),
                                    .gate = std::move(tuning.gate)}));
  return std::shared_ptr<KvProducer>(std::move(producer));
}

using Models = std::vector<std::shared_ptr<const Model>>;

Result<Models> load_models(Environment& env, const CloudCommand& command, const KeptWeights& kept) {
  Models out;
  for (const std::string& path : command.models) {
    CELSLM_TRY(out.emplace_back(), load_model(env, path, kept, command.device));
  }
  return out;
}

Result<std::vector<std::shared_ptr<KvProducer>>> make_producers(const Models& models, const CloudCommand& command) {
  std::vector<std::shared_ptr<KvProducer>> out;
  for (const auto& model : models) {
    if (model->foreign()) {
      out.push_back(std::make_shared<StateProducer>(model, command.threads));
      continue;
    }
    CELSLM_TRY(auto producer, ModelProducer::create(model, {.n_threads = command.threads}));
    out.push_back(std::move(producer));
  }
  for (const std::string& path : command.maps) {
    auto producer = load_map(path, models, command.threads);
    if (!producer) return wrap(std::move(producer).error(), path);
    out.push_back(*std::move(producer));
  }
  for (const std::string& path : command.tunings) {
    CELSLM_TRY(out.emplace_back(), load_tuning(path, models, command.threads));
  }
  return out;
}

// The largest model studies. Its engine is made on the studying thread, whose low priority the engine's threads inherit.
std::optional<StudyingOptions> studying_options(Models models, const CloudCommand& command) {
  // A study goes back to where its turn began, and reads rows of all layers.
  std::erase_if(models, [](const auto& model) { return model->foreign() || model->config().has_states(); });
  if (command.study_budget == 0 || models.empty()) return {};
  const auto model = *std::ranges::max_element(models, {}, [](const auto& m) { return m->weight_bytes(); });
  const auto engine = std::make_shared<std::unique_ptr<Engine>>();
  const auto open = [model, engine,
                     threads = command.threads](const std::string& system) -> Result<std::unique_ptr<StudyModel>> {
    if (*engine == nullptr) {
      CELSLM_TRY(*engine, Engine::create(model, {.n_threads = threads}));
    }
    CELSLM_TRY(auto study, StudyEngine::create(**engine, system));
    return std::unique_ptr<StudyModel>(std::move(study));
  };
  return StudyingOptions{
      .study = {.budget = command.study_budget, .questions = kMostStudyQuestions, .ask_by = command.study_by},
      .model = model->fingerprint().id(),
      .model_name = model->config().name,
      .open = open};
}

Result<CloudOptions> cloud_options(const Environment& env, const CloudCommand& command) {
  CloudOptions out{.pack_budget_bytes = command.pack_budget};
  out.data_folder = command.data;
  if (command.data.empty()) {
    CELSLM_TRY(out.data_folder, default_data_folder(env));
  }
  out.data_folder /= "cloud";
  out.studied_folder = command.studied;
  for (const std::string& name : command.codecs) {
    CELSLM_TRY(const Codec* codec, find_codec(name));
    out.codecs.push_back(codec->id());
  }
  return out;
}

// Without a token: an address out of the directory is not this user's word. Where nodes have an authority, another cloud
// must have a certificate of it, and is shown this server's.
CloudService::ConnectCloud connect_cloud(const ListenOptions& listen, const PublicKey& key, const Log& log) {
  HttpClientOptions options;
  if (!listen.client_authority_file.empty())
    options = {.ca_file = listen.client_authority_file,
               .certificate_file = listen.tls_certificate_file,
               .key_file = listen.tls_key_file};
  return [options, key, log](const std::string& url) -> Result<std::shared_ptr<CloudClient>> {
    HttpClientOptions of_node = options;
    of_node.base_url = url;
    CELSLM_TRY(auto http, make_http_client(of_node));
    return std::make_shared<CloudClient>(std::move(http), key, "", log);
  };
}

Status run_cloud(Environment& env, const CloudCommand& command, HttpServerOptions server) {
  CELSLM_TRY(const Log log, stderr_log("cloud", command.log_level));
  CELSLM_TRY(CloudOptions options, cloud_options(env, command));
  CELSLM_TRY(options.audit, open_audit(command.listen, "cloud", env.clock, log));
  CELSLM_TRY(auto fleet, fleet_parts(command.directory, command.listen.host));
  configure_heap();
  CELSLM_TRY(const Models models, load_models(env, command, {options.data_folder.parent_path() / "weights", log, true}));
  for (const auto& model : models) {
    if (model->foreign())
      log->info("{}: {}: libllama runs it, its KV is offered as states", model->config().name, model->foreign_reason());
  }
  options.studying = studying_options(models, command);
  CELSLM_TRY(auto producers, make_producers(models, command));
  CELSLM_TRY(const auto service, CloudService::create(options, std::move(producers), env.clock, log));
  if (fleet) service->join(*std::move(fleet), connect_cloud(command.listen, service->public_key(), log));
  server.max_body_bytes = kMaxCloudBodyBytes;
  log->info("{} registered contexts and packs of up to {:.1f} GB in {}", service->n_contexts(),
            static_cast<double>(options.pack_budget_bytes) / 1e9, options.data_folder.string());
  if (!command.studied.empty()) log->info("{} studied contexts in {}", service->n_studied(), command.studied);
  const Served served{.page = PageOf::kCloud,
                      .audit = options.audit,
                      .add_routes = [&](HttpServer& http) { service->add_routes(http); },
                      .started = [&](const std::string& url) { service->started(url); },
                      .drain = [&] { service->shutdown(); }};
  return serve_until_signal(env, served, server, kStopGrace, log);
}

void add_cloud_options(CLI::App& app, CloudCommand& command) {
  app.option_defaults()->group("MODELS");
  add_list(app, "--model,-m", command.models, "FILE REQUIRED", "GGUF file of a model to host")->required();
  add_list(app, "--map", command.maps, "FILE",
           "Layer map made by 'celslm align' that passed its quality gate: offers the KV of a large model, converted for a "
           "small one; both must be given with --model");
  add_list(app, "--tuning", command.tunings, "FILE",
           "Tuning that passed its gate ('celslm tuning show FILE'): offers the KV of its model with the constants added, "
           "too; the model must be given with --model");
  app.add_option("--studied", command.studied,
                 "Folder of studied contexts (*.gguf, docs/studied-format.md): offers each, for the registered text and the "
                 "model that it is of, which must be given with --model")
      ->option_text("FOLDER");
  add_list(app, "--codec", command.codecs, "NAME", "Codec in which packs are offered (default: all)");
  app.add_option("--threads,-t", command.threads, "Threads that compute, per model (default: one per core)")
      ->check(CLI::Range(0, 1024))
      ->option_text("N");
  add_device_options(app, command.device);
  add_number(app, "--study-budget", command.study_budget, 0, 1 << 30,
             "Tokens that the largest model may spend, while no pack is computed, on questions that it asks itself about "
             "each context (docs/study.md); 0: contexts are not studied");
  add_ask_by(app, "--study-by", command.study_by);
  app.option_defaults()->group("STORAGE");
  app.add_option("--data", command.data, "Folder for contexts, packs and the signing key (default: $XDG_DATA_HOME/celslm)")
      ->option_text("FOLDER");
  add_size(app, "--pack-budget", command.pack_budget, "Disk space for packs; the least recently used are deleted first");
  add_directory_options(app, command.directory);
  add_tier_option(app, command.directory);
  app.option_defaults()->group("SERVER");
  add_listen_options(app, command.listen, kDefaultPort);
  add_log_option(app, command.log_level);
}

}  // namespace

void add_cloud(CLI::App& app, Environment& env) {
  auto command = std::make_shared<CloudCommand>();
  CLI::App* cloud = app.add_subcommand(
      "cloud", "Host models: compute the KV cache of registered texts once, and serve it to edges that run the same models");
  add_cloud_options(*cloud, *command);
  cloud->footer(kExamples);
  cloud->callback([command, &env] {
    env.action = [command, &env] {
      return run_server(env, command->listen,
                        [&](HttpServerOptions server) { return run_cloud(env, *command, std::move(server)); });
    };
  });
}

}  // namespace celslm
