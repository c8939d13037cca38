// celslm doctor: is this machine fit for celslm, and if not, what to do?
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <ostream>
#include <thread>

#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/directory_options.h"
#include "cli/terminal/model_files.h"
#include "cli/terminal/model_loading.h"
#include "cli/terminal/option_kinds.h"
#include "core/json.h"
#include "core/memory_limit.h"
#include "core/memory_plan.h"
#include "fleet/directory/keys.h"
#include "model/device/device.h"
#include "net/http_server.h"
#include "plan/layer_work.h"
#include "serve/batch/compute_speed.h"

namespace celslm {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kExamples = R"(Examples:
  celslm doctor --model qwen2.5-0.5b --cloud http://cloud:8081
      checks CPU, memory, clock, disk and port, reaches the cloud, loads the model and measures it
  celslm doctor --json
)";

struct DoctorCommand {
  std::string model;
  std::string cloud;
  std::string token_file;
  bool token_in_clear = false;
  std::string ca_file;
  ClientCertificate certificate;
  DirectoryOptions directory;
  int port = 8080;
  bool as_json = false;
};

enum class State { kFine, kWarning, kFailed };

struct Finding {
  std::string what;
  State state = State::kFine;
  std::string detail;
};

const char* to_string(State state) {
  return state == State::kFine ? "ok" : state == State::kWarning ? "warning" : "failed";
}

std::string text_of(const fs::path& file) {
  std::ifstream in(file);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

// The first number behind `key`; nothing for "max", or without the key.
std::optional<std::uint64_t> number_in(std::string_view text, std::string_view key = "") {
  const std::size_t at = text.find(key);
  if (at == std::string_view::npos) return {};
  text.remove_prefix(at + key.size());
  text.remove_prefix(std::min(text.find_first_not_of(" \t:"), text.size()));
  std::uint64_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() ? std::optional(out) : std::nullopt;
}

Finding check_cpu() {
  const std::string info = text_of("/proc/cpuinfo");
  const std::size_t begin = std::min(info.find("flags"), info.find("Features"));
  const std::string flags = begin == std::string::npos ? "" : info.substr(begin, info.find('\n', begin) - begin) + " ";
  std::string found;
  for (const char* flag :
       {"avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve"}) {
    if (flags.contains(fmt::format(" {} ", flag))) found += fmt::format(" {}", flag);
  }
  std::string detail =
      fmt::format("{} threads;{}", std::thread::hardware_concurrency(), found.empty() ? " no vector features" : found);
  const std::string quota = text_of("/sys/fs/cgroup/cpu.max");
  const auto used = number_in(quota);
  const auto period = used ? number_in(std::string_view(quota).substr(quota.find(' ') + 1)) : std::nullopt;
  if (used && period && *period > 0)
    detail += fmt::format("; limited to {:.1f} cores by its cgroup: give --threads accordingly",
                          static_cast<double>(*used) / static_cast<double>(*period));
  const bool fast = flags.contains(" avx2 ") || flags.contains(" asimd ");
  if (!fast) detail += "; without AVX2 or NEON everything works, slowly";
  return {"cpu", fast ? State::kFine : State::kWarning, detail};
}

Finding check_memory(std::uint64_t model_bytes) {
  const std::string info = text_of("/proc/meminfo");
  std::uint64_t free = number_in(info, "MemAvailable").value_or(0) * 1024;
  const auto gigabytes = [](std::uint64_t bytes) { return static_cast<double>(bytes) / 1e9; };
  const MemoryLimit limit = memory_limit();
  std::string detail = fmt::format("{:.1f} GB available of {:.1f} GB", gigabytes(free), gigabytes(limit.machine_bytes));
  if (limit.bytes < limit.machine_bytes) {
    free = std::min(free, limit.bytes);
    detail += fmt::format("; {} allows {:.1f} GB", limit.set_by, gigabytes(limit.bytes));
  }
  const std::uint64_t usable = default_memory_limit(limit.bytes);
  const MemoryPlan plan = plan_memory(usable, model_bytes);
  detail += fmt::format("; an edge would use up to {:.1f} GB: {:.2f} for contexts, {:.2f} for requests", gigabytes(usable),
                        gigabytes(plan.context_bytes), gigabytes(plan.request_bytes));
  const bool enough = free > model_bytes + model_bytes / 4;
  if (!enough)
    detail += fmt::format("; the model has {:.1f} GB: take a smaller one", static_cast<double>(model_bytes) / 1e9);
  return {"memory", enough ? State::kFine : State::kWarning, detail};
}

// Each with its memory, and which of them --device auto takes.
Finding check_devices() {
  const auto devices = list_devices();
  if (!devices) return {"devices", State::kFailed, devices.error().message};
  const auto chosen = choose_device({.kind = DeviceRequest::Kind::kAuto}, *devices);
  const std::string used = chosen && *chosen ? (*chosen)->name : "cpu";
  std::string detail = fmt::format("--device auto uses {}", used);
  for (const DeviceInfo& device : *devices)
    detail += fmt::format("; {}: {} ({}), {:.1f} of {:.1f} GB free", device.name, device.description, to_string(device.kind),
                          static_cast<double>(device.free_bytes) / 1e9, static_cast<double>(device.total_bytes) / 1e9);
  if (devices->empty()) detail += "; no GPU is seen (a GPU needs ggml's backend for it, e.g. libggml0-backend-vulkan)";
  return {"devices", State::kFine, detail};
}

Finding check_clock(const Clock& clock) {
  const auto now = std::chrono::floor<std::chrono::seconds>(clock.wall());
  const bool set = now > std::chrono::sys_days(std::chrono::year(2024) / 1 / 1);
  return {"clock", set ? State::kFine : State::kWarning,
          fmt::format("{} s since 1970{}", now.time_since_epoch().count(),
                      set ? "" : ": it is not set; certificates will be refused as not yet valid")};
}

Finding check_port(int port) {
  auto server = HttpServer::create({.port = port, .n_threads = 1}, null_log());
  const Status started = server ? (*server)->start() : Status(std::unexpected(server.error()));
  return {"port", started ? State::kFine : State::kFailed,
          started ? fmt::format("{} can be listened on", port) : started.error().message};
}

Finding check_disk(const Environment& env) {
  const auto folder = default_data_folder(env);
  if (!folder) return {"disk", State::kFailed, folder.error().message};
  fs::path there = *folder;
  while (!fs::exists(there)) there = there.parent_path();
  std::error_code error;
  const auto space = fs::space(there, error);
  const bool enough = !error && space.available > (1U << 30);
  return {"disk", enough ? State::kFine : State::kWarning,
          fmt::format("{:.1f} GB free for packs in {}", static_cast<double>(error ? 0 : space.available) / 1e9,
                      folder->string())};
}

Result<json> ask_cloud(const DoctorCommand& command) {
  CELSLM_TRY(const auto client, connect({.base_url = command.cloud,
                                         .ca_file = command.ca_file,
                                         .token_in_clear = command.token_in_clear,
                                         .certificate_file = command.certificate.certificate_file,
                                         .key_file = command.certificate.key_file},
                                        command.token_file));
  CELSLM_TRY(const HttpAnswer answer, client->call({.path = "/v1/models"}));
  if (answer.status != 200) return fail(ErrorKind::kUnavailable, "{} answered {}", command.cloud, answer.status);
  return parse_object(as_text(answer.body));
}

Finding check_cloud(const DoctorCommand& command, const Model* model, const Clock& clock) {
  const TimePoint start = clock.now();
  const auto answer = ask_cloud(command);
  if (!answer) return {"cloud", State::kFailed, answer.error().message};
  std::string detail = fmt::format("{} answered in {:.0f} ms", command.cloud, milliseconds(clock.now() - start));
  if (model == nullptr) return {"cloud", State::kFine, detail};
  const std::string id = model->fingerprint().id().hex();
  const bool hosted = dump_json(*answer).contains(id);
  return {"cloud", hosted ? State::kFine : State::kWarning,
          detail + (hosted ? ", and hosts this model" : ", but does not host this model: contexts will be computed here")};
}

// Whether it answers. What a fleet has there is asked for with that fleet's name, which its nodes know.
Finding check_directory(const DirectoryOptions& options, const Clock& clock) {
  const auto store = open_directory(options);
  if (!store) return {"directory", State::kFailed, store.error().message};
  const TimePoint start = clock.now();
  const auto answer = (*store)->sample(std::string(kKeyPrefix) + "doctor", 1);
  if (!answer) return {"directory", State::kFailed, answer.error().message};
  return {"directory", State::kFine, fmt::format("answered in {:.0f} ms", milliseconds(clock.now() - start))};
}

Finding describe_model(const Model& model) {
  const double megabytes = static_cast<double>(model.weight_bytes()) / 1e6;
  if (!model.foreign())
    return {"model", State::kFine,
            fmt::format("{}, {} layers, {:.0f} MB", model.config().name, model.config().n_layers, megabytes)};
  return {"model", State::kWarning,
          fmt::format("{}, {:.0f} MB; {}: libllama runs it, on the CPU. Its contexts are loaded as one state, not layer by "
                      "layer, and only from a cloud named with --cloud-key; no codecs, maps or tunings, no embeddings "
                      "(docs/foreign-models.md)",
                      model.config().name, megabytes, model.foreign_reason())};
}

Finding check_speed(std::shared_ptr<const Model> model, const Clock& clock) {
  constexpr ForeignLimits kEnoughToMeasure{.n_tokens = 2048, .n_sequences = 4};
  const int n_layers = model->config().n_layers;
  auto engine = Engine::create(std::move(model), {.foreign = kEnoughToMeasure});
  const auto speed = engine ? measure_layer_speed(**engine, clock) : Result<double>(std::unexpected(engine.error()));
  if (!speed) return {"speed", State::kFailed, speed.error().message};
  return {"speed", State::kFine,
          fmt::format("computing a context of 1,000 tokens takes {:.1f} s here", *speed * layer_work(1000) * n_layers)};
}

std::uint64_t file_bytes(const Environment& env, const std::string& model) {
  if (model.empty()) return 0;
  const auto file = find_model_file(env, model);
  std::error_code error;
  const std::uint64_t size = file ? fs::file_size(*file, error) : 0;
  return error ? 0 : size;
}

std::vector<Finding> examine(Environment& env, const DoctorCommand& command) {
  std::vector<Finding> out{
      check_cpu(),     check_devices(),         check_memory(file_bytes(env, command.model)), check_clock(env.clock),
      check_disk(env), check_port(command.port)};
  std::shared_ptr<const Model> model;
  Finding loaded{"model", State::kFine, "none given: --model FILE loads and measures one"};
  if (!command.model.empty()) {
    KeptWeights none;
    none.allow_foreign = true;
    auto result = load_model(env, command.model, none);
    if (result) {
      model = *std::move(result);
      loaded = describe_model(*model);
    } else {
      loaded = {"model", State::kFailed, result.error().message};
    }
  }
  if (!command.cloud.empty()) out.push_back(check_cloud(command, model.get(), env.clock));
  if (!command.directory.url.empty()) out.push_back(check_directory(command.directory, env.clock));
  out.push_back(std::move(loaded));
  if (model) out.push_back(check_speed(std::move(model), env.clock));
  return out;
}

int report(Environment& env, const std::vector<Finding>& findings, bool as_json) {
  const bool failed = std::ranges::any_of(findings, [](const Finding& f) { return f.state == State::kFailed; });
  json list = json::array();
  for (const Finding& f : findings) {
    list.push_back({{"check", f.what}, {"state", to_string(f.state)}, {"detail", f.detail}});
    if (!as_json) env.out << fmt::format("{:<8} {:<8} {}\n", f.what, to_string(f.state), f.detail);
  }
  if (as_json) env.out << dump_json({{"fit", !failed}, {"checks", std::move(list)}}) << '\n';
  env.out << std::flush;
  return failed ? kExitFailed : kExitFine;
}

}  // namespace

void add_doctor(CLI::App& app, Environment& env) {
  auto command = std::make_shared<DoctorCommand>();
  CLI::App* doctor = app.add_subcommand(
      "doctor",
      "Check whether this machine is fit for celslm: CPU, GPUs, memory, clock, disk, port, and where they are given the "
      "cloud, the directory and the model. Exit code 1 if something failed");
  doctor->footer(kExamples);
  doctor->add_option("--model,-m", command->model, "GGUF file, or name of a kept model, to load and measure")
      ->option_text("FILE");
  doctor->add_option("--cloud", command->cloud, "URL of a cloud to reach")->option_text("URL");
  doctor->add_option("--cloud-token-file", command->token_file, "File with the bearer token for the cloud")
      ->option_text("FILE");
  add_token_in_clear(*doctor, command->token_in_clear);
  add_client_certificate(*doctor, command->certificate);
  doctor->add_option("--cloud-ca", command->ca_file, "PEM file with the authority of the cloud's certificate")
      ->option_text("FILE");
  add_directory_server(*doctor, command->directory);
  add_number(*doctor, "--port", command->port, 0, 65535, "Port that has to be free");
  doctor->add_flag("--json", command->as_json, "Print JSON");
  doctor->callback(
      [&env, command] { env.action = [&env, command] { return report(env, examine(env, *command), command->as_json); }; });
}

}  // namespace celslm
