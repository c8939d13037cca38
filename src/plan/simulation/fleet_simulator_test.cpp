#include "plan/simulation/fleet_simulator.h"

#include <gmock/gmock.h>

#include <numeric>

#include "plan/simulation/fleet_requests.h"

namespace celslm {
namespace {

using testing::AllOf;
using testing::DoubleNear;
using testing::Ge;
using testing::Le;
using testing::SizeIs;

constexpr double kMs = 1e-3;

FleetShape small_fleet() {
  FleetShape out{.n_edges = 12, .site_size = 6, .n_clouds = 2, .links = {*find_link_class("fibre")}};
  out.contexts.assign(10, {});
  return out;
}

std::vector<FleetRequest> load_of(const FleetShape& shape, double per_edge = 0.2, std::uint64_t seed = 1) {
  return synthetic_requests({.duration_s = 300, .requests_per_s = per_edge * shape.n_edges}, shape.n_edges,
                            static_cast<int>(shape.contexts.size()), seed);
}

FleetResult simulate(const FleetShape& shape, const std::vector<FleetRequest>& requests) {
  return FleetSimulator(shape, requests).run();
}

double bytes(const FleetResult& result, Origin origin) {
  return result.bytes[static_cast<std::size_t>(origin)];
}

TEST(SimulatedEdge, ComputesOneRequestInTheTimeThatItsTokensTake) {
  const EngineModel engine{.prefill_tokens_per_s = 100, .decode_base_s = 0.02, .decode_per_user_s = 0.01};
  SimulatedEdge edge(engine);
  edge.add(7, -1, 50, 11);
  EXPECT_THAT(edge.next_event_s(), DoubleNear(0.5, 1e-6));
  edge.advance(0.5 + 1e-6);
  auto events = edge.take_events();
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].kind, EdgeEvent::Kind::kFirstToken);
  EXPECT_EQ(events[0].subject, 7);
  edge.advance(0.5 + 10 * 0.03 + 1e-5);  // ten more tokens
  events = edge.take_events();
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].kind, EdgeEvent::Kind::kAnswered);
  EXPECT_EQ(edge.next_event_s(), kNever);
}

TEST(SimulatedEdge, MeetsInTheMiddleOfWhatItComputesAndFetches) {
  SimulatedEdge edge({.prefill_tokens_per_s = 100});
  ContextLoad load{.context = 3, .shape = {.tokens = 1000, .pack_bytes = 1000}, .computes = true};
  load.rates[0] = 100;  // ten seconds either way
  edge.begin_load(load);
  EXPECT_THAT(edge.next_event_s(), DoubleNear(5, 1e-6));
  edge.advance(5.001);
  const auto events = edge.take_events();
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].kind, EdgeEvent::Kind::kLoaded);
  EXPECT_THAT(edge.end_load().received[0], DoubleNear(500, 1));
}

TEST(SimulatedEdge, TakesAsManyTokensOfPromptsAsFitTheStallBesideAnswers) {
  const EngineModel engine{.prefill_tokens_per_s = 400, .decode_base_s = 0.02, .decode_per_user_s = 0.001, .stall_s = 0.1};
  EXPECT_THAT(engine.prompt_share(0), DoubleNear(40, 1e-9));
  const double share = engine.prompt_share(8);
  EXPECT_THAT(share, DoubleNear(engine.stall_s / engine.row_s(8), 1e-9)) << "which is how BatchRunner chooses it";
  EXPECT_EQ(EngineModel{.prefill_tokens_per_s = 20}.prompt_share(8), 16);
  EXPECT_EQ(EngineModel{.prefill_tokens_per_s = 1e6}.prompt_share(0), 512);
}

TEST(SimulatedEdge, WaitsForAPlaceInTheOrderOfArrival) {
  SimulatedEdge edge({.places = 1, .max_queue = 1});
  edge.add(1, -1, 10, 5);
  EXPECT_FALSE(edge.is_full());
  edge.add(2, -1, 10, 5);
  EXPECT_TRUE(edge.is_full());
  edge.advance(100);
  std::vector<int> answered;
  for (const EdgeEvent& event : edge.take_events()) {
    if (event.kind == EdgeEvent::Kind::kAnswered) answered.push_back(event.subject);
  }
  EXPECT_THAT(answered, testing::ElementsAre(1, 2));
}

TEST(SimulatedEdge, GoesOnWhereADoubleTellsNoSmallStepsApart) {
  SimulatedEdge edge({});
  double now = 1e12;
  edge.advance(now);
  edge.add(1, -1, 601, 5);
  for (double next = edge.next_event_s(); next != kNever; next = edge.next_event_s()) {
    ASSERT_GT(next, now);
    edge.advance(now = next);
  }
  EXPECT_THAT(edge.take_events(), SizeIs(2)) << "the first token and the last";
}

TEST(SharedPipe, GivesWhatSlowReceiversLeaveToTheOthers) {
  SharedPipe pipe(100);
  pipe.add(0, 10);
  pipe.add(1, 1000);
  pipe.add(2, 1000);
  pipe.rebalance();
  EXPECT_DOUBLE_EQ(pipe.rate_of(10), 10);
  EXPECT_DOUBLE_EQ(pipe.rate_of(1000), 45);
  EXPECT_DOUBLE_EQ(pipe.used_bytes_per_s(), 100);
  pipe.remove(1);
  pipe.rebalance();
  EXPECT_DOUBLE_EQ(pipe.rate_of(1000), 90);
}

TEST(FleetSimulator, AnswersARequestForAResidentContextInTheTimeOfItsOwnTokens) {
  FleetShape shape = small_fleet();
  shape.n_pushed = 1;
  const FleetResult result =
      simulate(shape, {{.at_s = 1, .edge = 3, .context = 0, .prompt_tokens = 40, .answer_tokens = 2}});
  ASSERT_EQ(result.answered, 1U);
  EXPECT_THAT(result.ttft_s[0], DoubleNear(40 / shape.engine.prefill_tokens_per_s, 1e-4));
  EXPECT_THAT(result.tpot_s[0], DoubleNear(shape.engine.step_s(1), 1e-4));
  EXPECT_EQ(std::accumulate(result.bytes.begin(), result.bytes.end(), 0.0), 0);
}

TEST(FleetSimulator, FetchesAContextThatNoneHasInTheTimeOfCloudLinkAndEngine) {
  FleetShape shape = small_fleet();
  shape.prefer = Prefer::kEnergy;
  const FleetResult result =
      simulate(shape, {{.at_s = 0, .edge = 0, .context = 0, .prompt_tokens = 40, .answer_tokens = 2}});
  const double cloud = shape.contexts[0].tokens / shape.cloud_prefill_tokens_per_s;
  const double link = shape.contexts[0].pack_bytes / shape.links[0].down_bytes_per_s;
  EXPECT_THAT(result.ttft_s[0], DoubleNear(cloud + link + 40 / shape.engine.prefill_tokens_per_s, 1e-3));
  EXPECT_THAT(bytes(result, Origin::kCloud), DoubleNear(shape.contexts[0].pack_bytes, 100));
}

TEST(FleetSimulator, ComputesAndFetchesAtOnceWhereBothTakeAsLong) {
  FleetShape shape = small_fleet();
  shape.links = {{"as fast as the engine", shape.contexts[0].pack_bytes / (2048 / 400.0), 0}};
  shape.cloud_prefill_tokens_per_s = 1e9;
  const FleetResult result = simulate(shape, {{.at_s = 0, .edge = 0, .context = 0, .prompt_tokens = 1, .answer_tokens = 1}});
  EXPECT_THAT(result.ttft_s[0], DoubleNear(2048 / 400.0 / 2, 0.01));
  EXPECT_THAT(bytes(result, Origin::kCloud), DoubleNear(shape.contexts[0].pack_bytes / 2, 1e5));
}

struct Conserved {
  const char* name;
  FleetRouting routing;
  RequestPolicy policy;
  double edge_mtbf_s;
  double cloud_mtbf_s;
  double per_edge;
};

class ConservationTest : public testing::TestWithParam<Conserved> {};

TEST_P(ConservationTest, EveryRequestIsAnsweredOrRefusedOnce) {
  FleetShape shape = small_fleet();
  shape.routing = GetParam().routing;
  shape.policy = GetParam().policy;
  shape.tier_bytes_per_s = GetParam().cloud_mtbf_s > 0 ? 1e8 : 0;
  shape.failures = {.edge_mtbf_s = GetParam().edge_mtbf_s, .cloud_mtbf_s = GetParam().cloud_mtbf_s, .repair_s = 20};
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    shape.seed = seed;
    const auto requests = load_of(shape, GetParam().per_edge, seed);
    const FleetResult result = simulate(shape, requests);
    EXPECT_EQ(result.requests, requests.size());
    EXPECT_EQ(result.answered + result.refused, requests.size());
    EXPECT_EQ(result.ttft_s.size(), result.answered);
    EXPECT_THAT(result.ttft_s, testing::Each(testing::Gt(0)));
    if (GetParam().policy == RequestPolicy::kEdgeOnly) {
      EXPECT_EQ(result.forwarded, 0U);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    With, ConservationTest,
    testing::Values(Conserved{"AQuietFleet", FleetRouting::kHome, RequestPolicy::kEdgeOnly, 0, 0, 0.05},
                    Conserved{"Routing", FleetRouting::kPredicted, RequestPolicy::kFleet, 0, 0, 0.3},
                    Conserved{"RoundRobin", FleetRouting::kRoundRobin, RequestPolicy::kFleet, 0, 0, 0.3},
                    Conserved{"RandomAndFailures", FleetRouting::kRandom, RequestPolicy::kFleet, 100, 60, 0.3},
                    Conserved{"FailuresWherePromptsStay", FleetRouting::kHome, RequestPolicy::kEdgeOnly, 80, 80, 0.2},
                    Conserved{"FailuresAndRouting", FleetRouting::kPredicted, RequestPolicy::kFleet, 60, 50, 0.3},
                    Conserved{"MoreThanTheFleetCanDo", FleetRouting::kPredicted, RequestPolicy::kFleet, 0, 0, 8}),
    [](const auto& instance) { return instance.param.name; });

TEST(FleetSimulator, GivesTheSameForTheSameSeed) {
  FleetShape shape = small_fleet();
  shape.routing = FleetRouting::kPredicted;
  shape.failures = {.edge_mtbf_s = 100, .cloud_mtbf_s = 100};
  const auto requests = load_of(shape);
  const FleetResult first = simulate(shape, requests);
  const FleetResult second = simulate(shape, requests);
  EXPECT_EQ(first.ttft_s, second.ttft_s);
  EXPECT_EQ(first.bytes, second.bytes);
  shape.seed = 2;
  EXPECT_NE(simulate(shape, requests).ttft_s, first.ttft_s);
}

TEST(FleetSimulator, IsNotMuchSlowerOverAFasterLink) {
  FleetShape shape = small_fleet();
  const auto requests = load_of(shape);
  double before = kNever;
  for (const char* const name : {"lte", "cable", "5g", "fibre", "lan"}) {
    shape.links = {*find_link_class(name)};
    const double p95 = percentile(simulate(shape, requests).ttft_s, 95);
    EXPECT_LE(p95, before * 1.05 + 10 * kMs) << name;
    before = p95;
  }
}

TEST(FleetSimulator, IsNotMuchSlowerWithMoreClouds) {
  FleetShape shape = small_fleet();
  shape.cloud_bytes_per_s = 20e6;
  shape.prefer = Prefer::kEnergy;
  const auto requests = load_of(shape);
  double before = kNever;
  for (shape.n_clouds = 1; shape.n_clouds <= 4; ++shape.n_clouds) {
    const double p95 = percentile(simulate(shape, requests).ttft_s, 95);
    EXPECT_LE(p95, before * 1.05 + 10 * kMs) << shape.n_clouds;
    before = p95;
  }
}

TEST(FleetSimulator, NeverComputesMoreThanWithoutAnySource) {
  FleetShape shape = small_fleet();
  const auto requests = load_of(shape);
  const FleetResult with = simulate(shape, requests);
  shape.n_clouds = 0;
  shape.lan_bytes_per_s = 1;
  shape.policy = RequestPolicy::kEdgeOnly;
  const FleetResult without = simulate(shape, requests);
  EXPECT_LE(with.computed_tokens, without.computed_tokens * 1.001);
  EXPECT_LE(percentile(with.ttft_s, 95), percentile(without.ttft_s, 95));
}

TEST(FleetSimulator, FailuresCostTimeAndNothingElse) {
  FleetShape shape = small_fleet();
  shape.engine.max_queue = 1000;
  const auto requests = load_of(shape);
  const FleetResult calm = simulate(shape, requests);
  shape.failures = {.edge_mtbf_s = 60, .cloud_mtbf_s = 60, .repair_s = 10};
  const FleetResult troubled = simulate(shape, requests);
  EXPECT_EQ(troubled.answered, calm.answered);
  EXPECT_EQ(troubled.refused, 0U);
  EXPECT_GT(troubled.repeated, 0U);
  EXPECT_GE(percentile(troubled.ttft_s, 99), percentile(calm.ttft_s, 99));
}

// Results by turns and by predictions: two contexts of ten fit an edge's memory, and others come from a cloud alone.
std::pair<FleetResult, FleetResult> turns_and_predictions(const char* link) {
  FleetShape shape = small_fleet();
  shape.links = {*find_link_class(link)};
  shape.context_memory_bytes = 60e6;
  shape.disk_bytes = 0;
  shape.lan_bytes_per_s = 0;
  const auto requests = load_of(shape, 0.6);
  shape.routing = FleetRouting::kRoundRobin;
  FleetResult turns = simulate(shape, requests);
  shape.routing = FleetRouting::kPredicted;
  return {std::move(turns), simulate(shape, requests)};
}

TEST(FleetSimulator, RoutingMakesTheLongestWaitsHalfOfThoseByTurnsWhereLoadsTakeSeconds) {
  const auto [turns, predicted] = turns_and_predictions("cable");
  EXPECT_GT(turns.edge_busy, 0.8);
  EXPECT_LE(percentile(predicted.ttft_s, 95), percentile(turns.ttft_s, 95) / 2);
  EXPECT_LE(bytes(predicted, Origin::kCloud), bytes(turns, Origin::kCloud) / 5);
}

TEST(FleetSimulator, RoutingTakesFewerBytesThanTurnsAlsoWhereLoadsAreQuick) {
  const auto [turns, predicted] = turns_and_predictions("fibre");
  EXPECT_LE(percentile(predicted.ttft_s, 50), percentile(turns.ttft_s, 50));
  EXPECT_LE(bytes(predicted, Origin::kCloud), bytes(turns, Origin::kCloud) * 0.6);
}

TEST(FleetSimulator, TakesBytesOfACloudOnceForASiteWhereNeighboursHelp) {
  FleetShape shape = small_fleet();
  shape.n_edges = 6;
  shape.prefer = Prefer::kEnergy;
  std::vector<FleetRequest> requests;
  for (int edge = 0; edge < 6; ++edge) requests.push_back({.at_s = 20.0 * edge, .edge = edge, .context = 0});
  const FleetResult result = simulate(shape, requests);
  EXPECT_EQ(result.loads, 6U);
  EXPECT_THAT(bytes(result, Origin::kCloud) + bytes(result, Origin::kNeighbour),
              DoubleNear(6 * shape.contexts[0].pack_bytes, 1e3));
  EXPECT_LT(bytes(result, Origin::kCloud), 6 * shape.contexts[0].pack_bytes);
}

TEST(SyntheticRequests, FollowZipfsLawAndTheRate) {
  const auto requests =
      synthetic_requests({.duration_s = 10'000, .requests_per_s = 2, .zipf = 1, .prompt_tokens = 100}, 10, 100, 3);
  EXPECT_THAT(static_cast<double>(requests.size()), AllOf(Ge(19'000), Le(21'000)));
  std::vector<double> counts(100);
  double tokens = 0;
  for (const FleetRequest& request : requests) {
    counts[static_cast<std::size_t>(request.context)] += 1;
    tokens += request.prompt_tokens;
  }
  EXPECT_THAT(counts[0] / counts[9], AllOf(Ge(8), Le(12)));
  EXPECT_THAT(tokens / static_cast<double>(requests.size()), DoubleNear(100, 5));
  EXPECT_TRUE(std::ranges::is_sorted(requests, {}, &FleetRequest::at_s));
}

TEST(ReadRequests, GivesWhatWasWritten) {
  const std::vector<FleetRequest> requests{{.at_s = 0.25, .edge = 1, .context = -1, .prompt_tokens = 5, .answer_tokens = 6},
                                           {.at_s = 1.5, .edge = 0, .context = 2, .prompt_tokens = 7, .answer_tokens = 8}};
  const auto read = read_requests(write_requests(requests), 2, 3);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(write_requests(*read), write_requests(requests));
}

TEST(ReadRequests, NamesTheLineThatIsWrong) {
  const std::string right = write_requests({{.at_s = 1}});
  for (const std::string line : {R"({"at_s": -1, "edge": 0, "context": 0, "prompt_tokens": 1, "answer_tokens": 1})",
                                 R"({"at_s": 1, "edge": 2, "context": 0, "prompt_tokens": 1, "answer_tokens": 1})",
                                 R"({"at_s": 1, "edge": 0, "context": 3, "prompt_tokens": 1, "answer_tokens": 1})",
                                 R"({"at_s": 1, "edge": 0, "context": 0, "prompt_tokens": 0, "answer_tokens": 1})",
                                 R"({"edge": 0, "context": 0, "prompt_tokens": 1, "answer_tokens": 1})", "x"}) {
    const auto read = read_requests(right + line, 2, 3);
    ASSERT_FALSE(read) << line;
    EXPECT_THAT(read.error().message, testing::HasSubstr("line 2")) << line;
  }
}

constexpr const char* kTrace = R"({"timestamp": 0, "input_length": 1100, "output_length": 10, "hash_ids": [1, 2, 3]}
{"timestamp": 500, "input_length": 1200, "output_length": 20, "hash_ids": [1, 2, 4]}
{"timestamp": 900, "input_length": 1300, "output_length": 20, "hash_ids": [1, 2, 4, 5]}

{"timestamp": 2000, "input_length": 40, "output_length": 0, "hash_ids": [9]}
)";

TEST(MooncakeTrace, MakesCommonBeginningsContexts) {
  const auto trace = read_mooncake_trace(kTrace, {.min_requests = 3, .time_scale = 2, .bytes_per_token = 10}, 8);
  ASSERT_TRUE(trace) << trace.error().message;
  ASSERT_THAT(trace->contexts, SizeIs(1));
  EXPECT_EQ(trace->contexts[0].tokens, 1024);
  EXPECT_EQ(trace->contexts[0].pack_bytes, 10240);
  ASSERT_THAT(trace->requests, SizeIs(4));
  EXPECT_EQ(trace->requests[0].prompt_tokens, 1100 - 1024);
  EXPECT_EQ(trace->requests[1].at_s, 1);
  EXPECT_EQ(trace->requests[2].edge, trace->requests[1].edge) << "a conversation stays at one edge";
  EXPECT_EQ(trace->requests[2].prompt_tokens, 1) << "and its earlier turns are not computed again";
  EXPECT_EQ(trace->requests[3].context, -1);
  EXPECT_EQ(trace->n_without_context, 1);
}

TEST(MooncakeTrace, NamesTheLineThatIsWrong) {
  for (const std::string line : {"{}", "x", R"({"timestamp": -1, "input_length": 1, "output_length": 1, "hash_ids": []})",
                                 R"({"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": ["a"]})",
                                 R"({"timestamp": 1, "input_length": 1, "output_length": 1})"}) {
    const auto trace = read_mooncake_trace(std::string(kTrace) + line, {}, 8);
    ASSERT_FALSE(trace) << line;
    EXPECT_THAT(trace.error().message, testing::HasSubstr("line 6")) << line;
  }
  EXPECT_FALSE(read_mooncake_trace("", {}, 8));
}

}  // namespace
}  // namespace celslm
