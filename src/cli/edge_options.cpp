#include "cli/edge_options.h"

#include <CLI/CLI.hpp>

#include "align/tuning/gate.h"
#include "cli/builtin_codec_quality.h"
#include "cli/connect.h"
#include "cli/terminal/option_kinds.h"
#include "core/file.h"
#include "core/memory_limit.h"
#include "core/memory_plan.h"

namespace celslm {
namespace {

constexpr int kDefaultPort = 8080;
constexpr std::size_t kMaxMeasurementsBytes = 4U << 20;  // a dozen lines per model

// An option of earlier versions, refused with what to do instead.
void add_removed(CLI::App& app, const std::string& name, const std::string& instead) {
  app.add_option_function<std::string>(
         name, [name, instead](const std::string&) { throw CLI::ValidationError(name, "no longer exists: " + instead); })
      ->group("");
}

void add_request_options(CLI::App& app, EdgeCommand& command) {
  BatchOptions& batch = command.options.batch;
  app.option_defaults()->group("MODEL AND REQUESTS");
  app.add_option("--model,-m", command.model_file, "GGUF file of the model that answers")
      ->required()
      ->option_text("FILE REQUIRED");
  app.add_option("--name", command.options.model_name, "Model name in the API (default: the name in the GGUF file)")
      ->option_text("NAME");
  app.add_option("--threads,-t", command.n_threads, "Threads that compute (default: one per core)")
      ->check(CLI::Range(0, 1024))
      ->option_text("N");
  add_device_options(app, command.device);
  add_number(app, "--max-users", batch.max_running, 1, 256, "Requests that are answered at the same time");
  add_number(app, "--max-queue", batch.max_queued, 0, 4096,
             "Requests that may wait for a free place; further ones are refused with status 429");
  add_size(app, "--memory", command.memory_bytes,
           "Memory that this edge may use in all: what does not fit waits, is evicted or is refused with status 429",
           "nine tenths of what the system allows");
  batch.kv_budget_bytes = 0;
  add_size(app, "--kv-budget", batch.kv_budget_bytes,
           "Memory for the KV cache of requests' own tokens; requests that do not fit wait",
           "a quarter of what the model leaves of --memory");
  app.add_flag_callback(
      "--no-reuse", [&batch] { batch.reuse_prefixes = false; },
      "Do not keep the KV cache of finished conversations for requests that continue them; without reuse the same request "
      "always gets the same answer, with it results may differ by rounding");
  app.add_flag("--share-prefixes", batch.share_prefixes,
               "Use the KV cache of finished conversations for everybody's requests, not only for those of the same client "
               "(bearer token, or address without one): for a box with one user, since response times tell how far a prompt "
               "is like another's");
  add_milliseconds(app, "--max-stall", batch.max_stall, 1, 60'000,
                   "Milliseconds by which the processing of new prompts may delay the next token of running answers");
}

void add_cloud_options(CLI::App& app, EdgeCommand& command) {
  CloudAccess& cloud = command.cloud;
  LoaderOptions& load = command.options.load;
  app.option_defaults()->group("CLOUD AND PEERS");
  app.add_option("--cloud", cloud.url, "URL of the cloud, e.g. http://cloud:8081; without it all contexts are computed here")
      ->option_text("URL");
  app.add_option("--cloud-key", cloud.public_key,
                 "Public key that must have signed the cloud's packs (default: the first key that the cloud presents is "
                 "stored and required from then on)")
      ->option_text("HEX");
  app.add_option("--cloud-ca", cloud.ca_file, "PEM file with the certificate authority of the cloud's TLS certificate")
      ->option_text("FILE");
  app.add_option("--cloud-token-file", cloud.token_file, "File with the bearer token for the cloud")->option_text("FILE");
  add_list(app, "--peer", cloud.peers, "URL", "URL of another edge of the same cloud from which packs may be fetched, too");
  app.add_option("--peer-token-file", cloud.peer_token_file, "File with the bearer token for the peers")
      ->option_text("FILE");
  add_token_in_clear(app, cloud.token_in_clear);
  add_client_certificate(app, cloud.certificate, "that of --tls-cert");
  add_number(app, "--connections", load.n_connections, 1, 64, "Connections to one server while a context is fetched");
  add_size(app, "--max-bytes-per-hour", cloud.max_bytes_per_hour,
           "Limit for what is sent to and received from cloud and peers within any hour; when it is reached, contexts are "
           "computed here",
           "no limit");
}

void add_context_options(CLI::App& app, EdgeCommand& command) {
  EdgeOptions& options = command.options;
  LoaderOptions& load = options.load;
  app.option_defaults()->group("SHARED CONTEXTS");
  add_list(app, "--context", command.context_files, "FILE",
           "Text file that requests to this edge share as their system message; needs no cloud");
  options.context_budget_bytes = 0;
  add_size(app, "--context-budget", options.context_budget_bytes,
           "Memory for contexts' KV; the least recently used are evicted first",
           "half of what the model leaves of --memory");
  add_choice<KvType>(
      app, "--context-kv", options.batch.kv_type,
      {{"f16", KvType::kF16}, {"bf16", KvType::kBf16}, {"f32", KvType::kF32}, {"q8", KvType::kQ8}},
      "Number format of KV in memory; with an exact codec that codec's format is used instead, except for q8, which takes "
      "about half the memory of f16 and is not exact");
  app.add_option("--codec", command.codec.name,
                 "Encoding of fetched KV: f16 or bf16 (exact), q8, t4, t3 or t2 (approximate: about 8.5, 4, 3, 2 bits per "
                 "value); auto: the one expected to load fastest among those that --codec-quality shows to be good enough, "
                 "f16 for a model that was not measured")
      ->option_text("NAME [auto]");
  app.add_option(
         "--codec-quality", command.codec.measurements_file,
         "What each codec does to this model's predictions, measured with "
         "'./dev bench codec --model GGUF --json FILE' (default: built in, for the models in models/codec-quality.json)")
      ->option_text("FILE");
  add_real(app, "--max-codec-loss", command.codec.max_loss, 0, 1e6,
           "Codecs are chosen automatically only if their loss is at most this: how far they move the model's predictions "
           "(KL divergence), in units of how far its own rounding does");
  add_removed(app, "--least-agreement",
              "codecs are judged by their loss, not by greedy agreement: use --max-codec-loss (docs/compression.md)");
  add_choice<Prefer>(app, "--prefer", load.policy.prefer,
                     {{"latency", Prefer::kLatency}, {"energy", Prefer::kEnergy}, {"bytes", Prefer::kBytes}},
                     "What to optimise when a context is loaded: latency fetches and computes at the same time; energy "
                     "computes only what no source can supply; bytes fetches only what may not be computed");
  add_number(app, "--max-compute", load.policy.max_compute_percent, 0, 100,
             "Percentage of a context's layers that may be computed here while a source can supply them");
  app.add_flag(
      "--mix-arithmetic", load.mix_arithmetic,
      "Compute part of a context here and fetch the rest even where cloud and edge round differently because one of "
      "them computes on a GPU; otherwise nothing is computed here while a source supplies it");
  add_choice<std::optional<Guidance>>(
      app, "--guidance", command.guidance,
      {{"none", Guidance::kNone},
       {"mapped", Guidance::kMapped},
       {"tuned", Guidance::kTuned},
       {"studied", Guidance::kStudied}},
      "What the KV of contexts owes to a larger model (answers then differ from this model's own). mapped: it is the larger "
      "model's, converted for this model, if the cloud has a map that passed its quality gate (docs/alignment.md); tuned: "
      "this model's own, with the constants of --tuning added (the default with --tuning); studied: what training made of "
      "each "
      "context, where the cloud has it, and otherwise as with --tuning or none (docs/studied-format.md)");
  app.add_option("--tuning", command.tuning_file,
                 "Tuning for this model that passed its gate ('celslm tuning show FILE'): constants for the KV of contexts, "
                 "with which this model answers better from them; the cloud needs the same file")
      ->option_text("FILE");
  app.add_flag("--refine", options.refine,
               "When no request runs, replace contexts fetched with an approximate codec by exact ones");
  add_number(app, "--prefetch", options.max_prefetched, 0, 100'000,
             "When no request runs, load up to this many registered contexts in advance");
}

void add_routing_options(CLI::App& app, EdgeCommand& command) {
  const std::vector<std::pair<std::string, RequestPolicy>> policies{
      {"edge-only", RequestPolicy::kEdgeOnly}, {"fleet", RequestPolicy::kFleet}, {"cloud", RequestPolicy::kCloud}};
  CloudAccess& cloud = command.cloud;
  app.option_defaults()->group("WHO MAY ANSWER");
  add_choice<RequestPolicy>(
      app, "--policy", command.options.routing.policy, policies,
      "Who may answer requests that do not choose (x_celslm.policy). edge-only: this edge, and nothing of the user's leaves "
      "it; fleet: also a neighbor; cloud: also the large model");
  add_choice<RequestPolicy>(app, "--widest-policy", command.widest_policy, policies, "The most that a request may choose");
  add_list(app, "--neighbor", cloud.neighbors, "URL",
           "URL of another edge with the same model that may answer requests for this one, if their policy allows");
  app.add_option("--neighbor-token-file", cloud.neighbor_token_file, "File with the bearer token for the neighbors")
      ->option_text("FILE");
  app.add_option("--large", cloud.large, "URL of an edge that answers with the large model, for requests with policy cloud")
      ->option_text("URL");
  app.add_option("--large-token-file", cloud.large_token_file, "File with the bearer token for --large")
      ->option_text("FILE");
  app.add_option("--cascade", command.cascade_file,
                 "When the small model's answer is good enough: a file that './dev bench cascade --rule FILE' wrote "
                 "(docs/routing.md); other answers are given by --large")
      ->option_text("FILE");
}

}  // namespace

void add_edge_options(CLI::App& app, EdgeCommand& command) {
  add_request_options(app, command);
  add_cloud_options(app, command);
  add_context_options(app, command);
  add_routing_options(app, command);
  add_directory_options(app, command.directory);
  app.option_defaults()->group("STORAGE");
  app.add_option("--data", command.data_folder, "Folder for packs and the cloud's key (default: $XDG_DATA_HOME/celslm)")
      ->option_text("FOLDER");
  add_size(app, "--pack-budget", command.pack_budget_bytes,
           "Disk space for packs; the least recently used are deleted first");
  app.option_defaults()->group("SERVER");
  add_listen_options(app, command.listen, kDefaultPort);
  add_log_option(app, command.log_level);
}

ClientCertificate client_certificate(const EdgeCommand& command) {
  const ClientCertificate& given = command.cloud.certificate;
  if (!given.certificate_file.empty() || !given.key_file.empty()) return given;
  return {.certificate_file = command.listen.tls_certificate_file, .key_file = command.listen.tls_key_file};
}

Result<EdgeOptions> complete_options(const EdgeCommand& command) {
  EdgeOptions out = command.options;
  const bool is_known = !command.cloud.token_file.empty() || !client_certificate(command).certificate_file.empty();
  out.forwards_registrations = !is_known || asks_who(command.listen);
  out.routing.widest = command.widest_policy;
  if (!command.cascade_file.empty() && command.cloud.large.empty())
    return fail(ErrorKind::kInvalid, "--cascade needs --large: there must be a model that answers what is uncertain");
  out.load.guidance = command.guidance.value_or(command.tuning_file.empty() ? Guidance::kNone : Guidance::kTuned);
  const Guidance guidance = out.load.guidance;
  const bool tunes = guidance == Guidance::kTuned || guidance == Guidance::kStudied;
  if (command.tuning_file.empty() ? guidance == Guidance::kTuned : !tunes)
    return fail(ErrorKind::kInvalid, "--guidance tuned and --tuning FILE belong together (studied may have one)");
  for (const std::string& file : command.context_files) {
    CELSLM_TRY(const Bytes text, read_file(file, kMaxContextBytes));
    out.contexts.emplace_back(as_text(text));
  }
  return out;
}

std::uint64_t memory_limit_of(const EdgeCommand& command) {
  return command.memory_bytes > 0 ? command.memory_bytes : default_memory_limit(memory_limit().bytes);
}

void divide_memory(EdgeOptions& options, std::uint64_t fixed_bytes) {
  const MemoryPlan plan = plan_memory(options.batch.memory->limit_bytes(), fixed_bytes);
  if (options.batch.kv_budget_bytes == 0) options.batch.kv_budget_bytes = plan.request_bytes;
  if (options.context_budget_bytes == 0) options.context_budget_bytes = plan.context_bytes;
}

Result<std::optional<CascadeRule>> cascade_for(const EdgeCommand& command, const Model& model) {
  if (command.cascade_file.empty()) return std::nullopt;
  CELSLM_TRY(const Bytes json, read_file(command.cascade_file, kMaxRuleBytes));
  auto rule = cascade_rule_from(as_text(json));
  if (!rule) return wrap(std::move(rule).error(), command.cascade_file);
  if (rule->model != Hash256{} && rule->model != model.fingerprint().id())
    return fail(ErrorKind::kMismatch, "{}: fitted for another model: fit it again for '{}'", command.cascade_file,
                model.config().name);
  return *std::move(rule);
}

Result<std::shared_ptr<const KvTuning>> tuning_for(const EdgeCommand& command, const Model& model) {
  if (command.tuning_file.empty()) return nullptr;
  CELSLM_TRY(Tuning tuning, read_servable_tuning(command.tuning_file));
  if (const Status fits = check_model(tuning, model.fingerprint()); !fits) return wrap(fits.error(), command.tuning_file);
  return std::make_shared<const KvTuning>(std::move(tuning.constants));
}

Result<CodecLadder> codecs_for(const CodecSelection& selection, const Model& model) {
  if (selection.name != "auto") {
    CELSLM_TRY(const Codec* codec, find_codec(selection.name));
    return CodecLadder::only(*codec);
  }
  const Hash256 id = model.fingerprint().id();
  if (selection.measurements_file.empty()) {
    auto ladder = CodecLadder::from_measurements(builtin_codec_quality(), id, selection.max_loss);
    if (!ladder && ladder.error().kind == ErrorKind::kNotFound) return CodecLadder::exact();
    return ladder;
  }
  CELSLM_TRY(const Bytes json, read_file(selection.measurements_file, kMaxMeasurementsBytes));
  auto ladder = CodecLadder::from_measurements(as_text(json), id, selection.max_loss);
  if (!ladder) return wrap(std::move(ladder).error(), selection.measurements_file);
  return ladder;
}

}  // namespace celslm
