// celslm simulate: a fleet in virtual time.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/commands.h"
#include "cli/terminal/option_kinds.h"
#include "core/file.h"
#include "core/json.h"
#include "plan/simulation/fleet_requests.h"
#include "plan/simulation/fleet_result.h"
#include "plan/simulation/fleet_simulator.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxTraceBytes = 1ULL << 30;
constexpr double kMostRequests = 1e7;  // in memory, with what came of each
constexpr double kMostBytesPerS = 1e15;
constexpr double kMostTokensPerS = 1e9;
constexpr double kMostSeconds = 1e9;
constexpr double kLeastMtbf = 1;  // seconds: where everything always fails nothing is ever answered

constexpr const char* kExamples = R"(Examples:
  celslm simulate --edges 10000 --clouds 4 --contexts 100 --link 5g --link fibre --requests-per-edge 0.02
      how long requests wait for their first token, and what the clouds send
  celslm simulate --edges 200 --contexts 20 --find clouds --p95-ttft-ms 2000
      the fewest clouds with which 95 % of requests have their first token within 2 s
  celslm simulate --edges 32 --trace conversations.jsonl --json
      the requests of a trace in Mooncake's format
)";

enum class Find { kNothing, kClouds, kCapacity };

struct SimulateCommand {
  FleetShape shape;
  SyntheticLoad load;
  TraceOptions trace_options;
  int n_contexts = 20;
  int context_tokens = 2048;
  double bytes_per_token = 12'288;  // of Qwen2.5-0.5B in f16
  double requests_per_edge = 0.05;
  std::vector<std::string> links;
  double link_bytes_per_s = 0;
  double round_trip_s = 0.01;
  std::string trace_file;
  std::string replayed_file;  // of write_requests(); empty: none
  std::string requests_file;  // written; empty: not
  Find find = Find::kNothing;
  double p95_ttft_ms = 2000;
  bool as_json = false;
};

struct Prepared {
  FleetShape shape;
  std::vector<FleetRequest> requests;
};

Status check_failures(const Failures& failures) {
  for (const auto& [name, mtbf_s] :
       {std::pair("--edge-mtbf", failures.edge_mtbf_s), std::pair("--cloud-mtbf", failures.cloud_mtbf_s)}) {
    if (mtbf_s > 0 && mtbf_s < kLeastMtbf)
      return fail(ErrorKind::kInvalid, "{} must be 0 (no failures) or at least {} s", name, kLeastMtbf);
  }
  return {};
}

Result<Prepared> prepare(const SimulateCommand& command) {
  CELSLM_CHECK_OK(check_failures(command.shape.failures));
  Prepared out{.shape = command.shape};
  for (const std::string& name : command.links) out.shape.links.push_back(*find_link_class(name));
  if (command.link_bytes_per_s > 0) out.shape.links = {{"own", command.link_bytes_per_s, command.round_trip_s}};
  if (!command.trace_file.empty()) {
    CELSLM_TRY(const Bytes text, read_file(command.trace_file, kMaxTraceBytes));
    TraceOptions options = command.trace_options;
    options.n_contexts = command.n_contexts;
    options.bytes_per_token = command.bytes_per_token;
    auto trace = read_mooncake_trace(as_text(text), options, out.shape.n_edges);
    if (!trace) return wrap(std::move(trace).error(), command.trace_file);
    out.shape.contexts = std::move(trace->contexts);
    out.requests = std::move(trace->requests);
    return out;
  }
  out.shape.contexts.assign(
      static_cast<std::size_t>(command.n_contexts),
      {.tokens = command.context_tokens, .pack_bytes = command.context_tokens * command.bytes_per_token});
  if (!command.replayed_file.empty()) {
    CELSLM_TRY(const Bytes text, read_file(command.replayed_file, kMaxTraceBytes));
    auto requests = read_requests(as_text(text), out.shape.n_edges, command.n_contexts);
    if (!requests) return wrap(std::move(requests).error(), command.replayed_file);
    out.requests = *std::move(requests);
    return out;
  }
  SyntheticLoad load = command.load;
  load.requests_per_s = command.requests_per_edge * out.shape.n_edges;
  const double expected = load.requests_per_s * load.duration_s;
  if (expected > kMostRequests)
    return fail(ErrorKind::kInvalid,
                "these would be about {:.3g} requests, and at most {:.3g} are simulated: give less of --edges, "
                "--requests-per-edge or --duration",
                expected, kMostRequests);
  out.requests = synthetic_requests(load, out.shape.n_edges, command.n_contexts, out.shape.seed);
  return out;
}

bool is_good(const FleetResult& result, const SimulateCommand& command) {
  return result.refused == 0 && percentile(result.ttft_s, 95) * 1000 <= command.p95_ttft_ms;
}

// The fewest clouds that suffice. kNotFound if one for each edge does not.
Result<int> clouds_needed(const SimulateCommand& command, const Prepared& prepared) {
  const auto suffice = [&](int n) {
    FleetShape shape = prepared.shape;
    shape.n_clouds = n;
    return is_good(FleetSimulator(shape, prepared.requests).run(), command);
  };
  const int most = prepared.shape.n_edges;
  if (!suffice(most))
    return fail(
        ErrorKind::kNotFound,
        "not even {} clouds, one for each edge, are enough for a p95 of {} ms: links or engines are too slow, or the "
        "requests too many",
        most, command.p95_ttft_ms);
  int enough = most;
  int too_few = 0;
  for (int n = 1; n < most && too_few + 1 < enough; n *= 2) {
    (suffice(n) ? enough : too_few) = n;
    if (enough == n) break;
  }
  while (enough - too_few > 1) {
    const int middle = (enough + too_few) / 2;
    (suffice(middle) ? enough : too_few) = middle;
  }
  return enough;
}

// How many times the requests' rate the fleet can take, to a twentieth.
double capacity(const SimulateCommand& command, const Prepared& prepared) {
  const auto suffices = [&](double factor) {
    std::vector<FleetRequest> requests = prepared.requests;
    for (FleetRequest& request : requests) request.at_s /= factor;
    return is_good(FleetSimulator(prepared.shape, std::move(requests)).run(), command);
  };
  constexpr double kMost = 1024;
  constexpr double kLeast = 1.0 / 1024;
  double good = 1;
  while (good > kLeast && !suffices(good)) good /= 2;
  double bad = 2 * good;
  while (bad < kMost && suffices(bad)) bad *= 2;
  good = bad / 2;
  while (bad / good > 1.05) {
    const double middle = (bad + good) / 2;
    (suffices(middle) ? good : bad) = middle;
  }
  return good;
}

std::string to_text(const FleetResult& result) {
  const auto ms = [](const std::vector<double>& values, double percent) { return percentile(values, percent) * 1000; };
  const auto gigabytes = [&](Origin origin) { return result.bytes[static_cast<std::size_t>(origin)] / 1e9; };
  return fmt::format(
      "{} requests in {:.0f} s: {} answered, {} refused, {} by neighbours, {} sent again after failures\n"
      "first token after {:.0f} ms (median), {:.0f} ms (95 %), {:.0f} ms (99 %); further ones every {:.1f} ms (median)\n"
      "{} loads of contexts: {:.2f} GB from clouds, {:.2f} GB from neighbours, {:.2f} GB from the tier, {:.2f} GB from "
      "disks\n"
      "edges computed {:.0f} % of the time, the clouds' links were used to {:.1f} %\n",
      result.requests, result.duration_s, result.answered, result.refused, result.forwarded, result.repeated,
      ms(result.ttft_s, 50), ms(result.ttft_s, 95), ms(result.ttft_s, 99), ms(result.tpot_s, 50), result.loads,
      gigabytes(Origin::kCloud), gigabytes(Origin::kNeighbour), gigabytes(Origin::kTier), gigabytes(Origin::kDisk),
      100 * result.edge_busy, 100 * result.cloud_link_busy);
}

Status simulate(Environment& env, const SimulateCommand& command) {
  CELSLM_TRY(Prepared prepared, prepare(command));
  json found = json::object();
  if (command.find == Find::kClouds) {
    CELSLM_TRY(prepared.shape.n_clouds, clouds_needed(command, prepared));
    found["clouds_needed"] = prepared.shape.n_clouds;
  } else if (command.find == Find::kCapacity) {
    const double factor = capacity(command, prepared);
    for (FleetRequest& request : prepared.requests) request.at_s /= factor;
    found["capacity_factor"] = factor;
  }
  if (!command.requests_file.empty())
    CELSLM_CHECK_OK(write_file_atomically(command.requests_file, as_bytes(write_requests(prepared.requests))));
  const TimePoint began = env.clock.now();
  const std::size_t n_contexts = prepared.shape.contexts.size();
  const FleetResult result = FleetSimulator(prepared.shape, std::move(prepared.requests)).run();
  if (!command.as_json) {
    if (!found.empty()) env.out << dump_json(found) << '\n';
    env.out << to_text(result);
    return {};
  }
  json out = to_json(result);
  out.update(found);
  out["edges"] = prepared.shape.n_edges;
  out["clouds"] = prepared.shape.n_clouds;
  out["contexts"] = n_contexts;
  out["wall_s"] = seconds(env.clock.now() - began);
  env.out << dump_json(out) << '\n';
  return {};
}

void add_fleet_options(CLI::App& app, SimulateCommand& command) {
  FleetShape& shape = command.shape;
  std::vector<std::string> names;
  for (const LinkClass& link : link_classes()) names.emplace_back(link.name);
  app.option_defaults()->group("FLEET");
  add_number(app, "--edges", shape.n_edges, 1, 100'000, "Edges");
  add_number(app, "--site", shape.site_size, 1, 1000, "Edges of a site: neighbours of each other");
  add_number(app, "--clouds", shape.n_clouds, 0, 10'000, "Clouds");
  add_list(app, "--link", command.links, "NAME",
           "Links to the clouds, of the edges by turns: lte, satellite, cable, 5g, wifi, fibre or lan (default: fibre)")
      ->check(CLI::IsMember(names));
  add_real(app, "--down", command.link_bytes_per_s, 0, kMostBytesPerS,
           "Bytes per second of a link of your own to the clouds, instead of --link; 0: none");
  add_real(app, "--round-trip", command.round_trip_s, 0, 1000, "Its round trip, in seconds");
  add_real(app, "--lan", shape.lan_bytes_per_s, 0, kMostBytesPerS,
           "Bytes per second of an edge towards its neighbours; 0: they have no contexts of each other");
  add_real(app, "--cloud-rate", shape.cloud_bytes_per_s, 1, kMostBytesPerS, "Bytes per second of a cloud towards all edges");
  add_real(app, "--cloud-prefill", shape.cloud_prefill_tokens_per_s, 1, kMostTokensPerS,
           "Tokens per second that a cloud computes");
  add_real(app, "--tier-rate", shape.tier_bytes_per_s, 0, kMostBytesPerS,
           "Bytes per second of the shared pack tier; 0: there is none");
  add_real(app, "--prefill", shape.engine.prefill_tokens_per_s, 1, kMostTokensPerS,
           "Tokens per second that an edge computes");
  add_real(app, "--decode-base", shape.engine.decode_base_s, 1e-6, 1000, "Seconds of an edge's step that decodes");
  add_real(app, "--decode-per-user", shape.engine.decode_per_user_s, 0, 1000, "Seconds more for each answer in it");
  add_number(app, "--layers", shape.engine.n_layers, 1, 1000, "Layers of the model");
  add_real(app, "--context-memory", shape.context_memory_bytes, 0, 1e15, "Bytes of an edge's memory for contexts");
  add_real(app, "--disk", shape.disk_bytes, 0, 1e15, "Bytes of an edge's disk for packs");
  add_number(app, "--max-users", shape.engine.places, 1, 256, "Requests in an edge's batch");
  add_number(app, "--max-queue", shape.engine.max_queue, 0, 100'000, "Further requests that wait; more are refused");
  add_number(app, "--pushed", shape.n_pushed, 0, 100'000, "Most popular contexts that all edges have from the start");
  add_choice<FleetRouting>(app, "--routing", shape.routing,
                           {{"home", FleetRouting::kHome},
                            {"random", FleetRouting::kRandom},
                            {"round-robin", FleetRouting::kRoundRobin},
                            {"predicted", FleetRouting::kPredicted}},
                           "Which edge of the site answers; predicted: as edges choose");
  add_choice<RequestPolicy>(app, "--policy", shape.policy,
                            {{"edge-only", RequestPolicy::kEdgeOnly}, {"fleet", RequestPolicy::kFleet}},
                            "Policy of all requests; with edge-only the edge that is asked answers");
  add_choice<Prefer>(app, "--prefer", shape.prefer, {{"latency", Prefer::kLatency}, {"energy", Prefer::kEnergy}},
                     "As of 'celslm edge': energy computes only what no source can supply");
  add_real(app, "--edge-mtbf", shape.failures.edge_mtbf_s, 0, kMostSeconds,
           "Mean seconds between failures of an edge; 0: none");
  add_real(app, "--cloud-mtbf", shape.failures.cloud_mtbf_s, 0, kMostSeconds,
           "Mean seconds between failures of a cloud; 0: none");
  add_real(app, "--repair", shape.failures.repair_s, 0, 1e6, "Seconds until what failed is back");
}

void add_load_options(CLI::App& app, SimulateCommand& command) {
  app.option_defaults()->group("REQUESTS");
  add_number(app, "--contexts", command.n_contexts, 0, 10'000, "Registered contexts; of a trace: at most");
  add_number(app, "--context-tokens", command.context_tokens, 1, 1 << 20, "Tokens of each");
  add_real(app, "--bytes-per-token", command.bytes_per_token, 1, 1e9, "Bytes of a pack for each token");
  add_real(app, "--zipf", command.load.zipf, 0, 100, "The n-th context is asked for in proportion to n^-X");
  add_real(app, "--requests-per-edge", command.requests_per_edge, 1e-6, 1e6, "Requests per second that come to each edge");
  add_real(app, "--duration", command.load.duration_s, 1, kMostSeconds, "Seconds for which requests come");
  add_number(app, "--prompt-tokens", command.load.prompt_tokens, 1, 1 << 20, "Mean of a request's own tokens");
  add_number(app, "--answer-tokens", command.load.answer_tokens, 1, 1 << 20, "Mean of an answer's tokens");
  app.add_option("--trace", command.trace_file,
                 "Requests from a file in Mooncake's format instead: JSON lines with timestamp, input_length, output_length "
                 "and hash_ids")
      ->option_text("FILE");
  app.add_option("--replay", command.replayed_file, "Requests from a file that --requests wrote instead")
      ->excludes("--trace")
      ->option_text("FILE");
  add_real(app, "--time-scale", command.trace_options.time_scale, 1e-6, 1e6, "The trace's times are multiplied by this");
  app.add_option("--seed", command.shape.seed, "The same seed gives the same result")->option_text("N [1]");
  app.option_defaults()->group("RESULT");
  add_choice<Find>(app, "--find", command.find,
                   {{"nothing", Find::kNothing}, {"clouds", Find::kClouds}, {"capacity", Find::kCapacity}},
                   "Look for the fewest clouds, or for the highest rate of requests, with which none is refused and 95 % "
                   "have their first token within --p95-ttft-ms");
  add_real(app, "--p95-ttft-ms", command.p95_ttft_ms, 1, 1e9, "The goal of --find, in milliseconds");
  app.add_option("--requests", command.requests_file, "Write the simulated requests to this file, as JSON lines")
      ->option_text("FILE");
  app.add_flag("--json", command.as_json, "Print JSON (docs/simulator.md has the keys)");
}

}  // namespace

void add_simulate(CLI::App& app, Environment& env) {
  auto command = std::make_shared<SimulateCommand>();
  CLI::App* simulate_app = app.add_subcommand(
      "simulate", "Simulate a fleet of edges and clouds: how long requests wait, what is sent, how many clouds are needed");
  simulate_app->footer(kExamples);
  add_fleet_options(*simulate_app, *command);
  add_load_options(*simulate_app, *command);
  simulate_app->callback([command, &env] {
    env.action = [command, &env] {
      const Status status = simulate(env, *command);
      return status ? kExitFine : failed(env, status.error());
    };
  });
}

}  // namespace celslm
