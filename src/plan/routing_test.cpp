#include "plan/routing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>

namespace celslm {
namespace {

RouteCandidate self() {
  return {.id = "self", .node = RouteClass::kSelf, .places = 4, .prefill_tokens_per_s = 1000, .decode_tokens_per_s = 50};
}

RouteCandidate neighbour(std::string id) {
  RouteCandidate out = self();
  out.id = std::move(id);
  out.node = RouteClass::kNeighbour;
  out.round_trip_s = 0.002;
  return out;
}

RouteCandidate holder(std::string id) {
  RouteCandidate out = neighbour(std::move(id));
  out.holds_context = true;
  return out;
}

RouteCandidate large() {
  RouteCandidate out = holder("large");
  out.node = RouteClass::kLargeModel;
  return out;
}

// About a context of 2,000 tokens, which takes 2 s to compute.
RouteRequest request(RequestPolicy policy = RequestPolicy::kFleet) {
  return {.policy = policy, .context_tokens = 2000, .prompt_tokens = 100, .answer_tokens = 51};
}

std::size_t first(std::size_t) {
  return 0;
}

RouteDecision choose(const RouteRequest& request, const std::vector<RouteCandidate>& candidates) {
  return choose_route(request, candidates, {}, first);
}

TEST(PolicyTest, NamesAreReadAsTheyAreWritten) {
  for (const RequestPolicy policy : {RequestPolicy::kEdgeOnly, RequestPolicy::kFleet, RequestPolicy::kCloud})
    EXPECT_EQ(policy_from(to_string(policy)), policy);
  EXPECT_EQ(policy_from("anywhere"), std::nullopt);
  EXPECT_EQ(policy_from(""), std::nullopt);
}

TEST(PolicyTest, ARequestOnlyNarrowsWhatItsKeyAllows) {
  using enum RequestPolicy;
  EXPECT_EQ(effective_policy(std::nullopt, kFleet, kCloud), kFleet);
  EXPECT_EQ(effective_policy(kEdgeOnly, kFleet, kCloud), kEdgeOnly);
  EXPECT_EQ(effective_policy(kCloud, kEdgeOnly, kCloud), kCloud);
  EXPECT_EQ(effective_policy(kCloud, kEdgeOnly, kFleet), kFleet);
  EXPECT_EQ(effective_policy(std::nullopt, kCloud, kEdgeOnly), kEdgeOnly);
}

TEST(RoutingTest, PredictsWhatTheFormulasGive) {
  RouteCandidate node = neighbour("a");
  auto predicted = predict(request(), node);
  ASSERT_TRUE(predicted);
  EXPECT_NEAR(predicted->ttft_s, 0.002 + 2.0 + 0.1, 1e-9);
  EXPECT_NEAR(predicted->tpot_s, 0.02, 1e-9);
  EXPECT_NEAR(predicted->total_s, predicted->ttft_s + 1.0, 1e-9);
  EXPECT_NEAR(predicted->cost_s, predicted->total_s + 2.0, 1e-9);
  node.context_fetch_s = 0.4;
  EXPECT_NEAR(predict(request(), node)->ttft_s, 0.002 + 0.4 + 0.1, 1e-9);
  node.holds_context = true;
  EXPECT_NEAR(predict(request(), node)->ttft_s, 0.002 + 0.1, 1e-9);
  node.running = 4;  // of 4 places; 2 wait: the third to end makes room. A request takes 1.1 s
  node.queued = 2;
  EXPECT_NEAR(predict(request(), node)->ttft_s, 0.002 + 3 * 1.1 / 4 + 0.1, 1e-9);
  node.decode_tokens_per_s = 0;
  EXPECT_FALSE(predict(request(), node));
}

TEST(RoutingTest, UnderEdgeOnlyNothingLeavesHoweverGoodOthersAre) {
  RouteCandidate full = self();
  full.accepts = false;
  const auto decision = choose(request(RequestPolicy::kEdgeOnly), {full, holder("a"), large()});
  EXPECT_EQ(decision.chosen, 0U);
  EXPECT_EQ(decision.reason, RouteReason::kPolicy);
}

TEST(RoutingTest, ANeighbourThatHoldsTheContextIsChosen) {
  const auto decision = choose(request(), {self(), neighbour("a"), holder("b")});
  EXPECT_EQ(decision.chosen, 2U);
  EXPECT_EQ(decision.reason, RouteReason::kHoldsContext);
  ASSERT_EQ(decision.predictions.size(), 3U);
  EXPECT_LT(decision.predictions[2]->ttft_s, decision.predictions[0]->ttft_s);
}

TEST(RoutingTest, ANeighbourMustBeClearlyBetter) {
  RouteCandidate here = self();
  here.holds_context = true;
  RouteCandidate a_little_faster = holder("a");
  a_little_faster.decode_tokens_per_s = 60;
  EXPECT_EQ(choose(request(), {here, a_little_faster}).reason, RouteReason::kGoodEnough);
  RouteCandidate much_faster = holder("a");
  much_faster.decode_tokens_per_s = 100;
  const auto decision = choose(request(), {here, much_faster});
  EXPECT_EQ(decision.chosen, 1U);
  EXPECT_EQ(decision.reason, RouteReason::kFaster);
}

TEST(RoutingTest, AShortRequestIsNotSentAwayForMilliseconds) {
  RouteCandidate here = self();
  here.holds_context = true;
  RouteCandidate twice_as_fast = holder("a");
  twice_as_fast.decode_tokens_per_s = 100;
  RouteRequest small = request();
  small.prompt_tokens = 10;
  small.answer_tokens = 4;  // 70 ms here, 42 ms there
  EXPECT_EQ(choose(small, {here, twice_as_fast}).chosen, 0U);
}

TEST(RoutingTest, AForwardedRequestIsNeverForwardedAgain) {
  RouteRequest forwarded = request(RequestPolicy::kCloud);
  forwarded.was_forwarded = true;
  RouteCandidate full = self();
  full.accepts = false;
  const auto decision = choose(forwarded, {full, holder("a"), large()});
  EXPECT_EQ(decision.chosen, 0U);
  EXPECT_EQ(decision.reason, RouteReason::kForwarded);
}

TEST(RoutingTest, WhatMustNotLeaveStays) {
  RouteRequest own_text = request(RequestPolicy::kCloud);
  own_text.stays_here = true;
  EXPECT_EQ(choose(own_text, {self(), holder("a")}).reason, RouteReason::kPrivate);
}

TEST(RoutingTest, AnOverloadedEdgeForwardsToWhoeverAccepts) {
  RouteCandidate full = self();
  full.accepts = false;
  full.holds_context = true;
  RouteCandidate also_full = holder("a");
  also_full.accepts = false;
  const auto decision = choose(request(), {full, also_full, neighbour("b")});
  EXPECT_EQ(decision.chosen, 2U);
  EXPECT_EQ(decision.reason, RouteReason::kOverloaded);
  EXPECT_EQ(choose(request(), {full, also_full}).reason, RouteReason::kAlone);
}

TEST(RoutingTest, TheLargeModelTakesWhatAllOthersRefuseIfThePolicyAllows) {
  RouteCandidate full = self();
  full.accepts = false;
  EXPECT_EQ(choose(request(RequestPolicy::kFleet), {full, large()}).chosen, 0U);
  EXPECT_EQ(choose(request(RequestPolicy::kCloud), {full, large()}).chosen, 1U);
  EXPECT_EQ(choose(request(RequestPolicy::kCloud), {self(), large()}).chosen, 0U);
  EXPECT_EQ(choose(request(RequestPolicy::kCloud), {full, large(), neighbour("b")}).chosen, 2U);
}

TEST(RoutingTest, WithoutMeasurementsARequestStaysUnlessItWouldBeRefused) {
  RouteCandidate here = self();
  here.decode_tokens_per_s = 0;
  EXPECT_EQ(choose(request(), {here, holder("a")}).reason, RouteReason::kUnmeasured);
  here.accepts = false;
  EXPECT_EQ(choose(request(), {here, holder("a")}).chosen, 1U);
}

TEST(RoutingTest, ANeighbourWithoutMeasurementsIsTakenToBeAsFastAsThisEdge) {
  RouteCandidate unknown = holder("a");
  unknown.prefill_tokens_per_s = 0;
  unknown.decode_tokens_per_s = 0;
  const RouteDecision decision = choose(request(), {self(), unknown});
  EXPECT_EQ(decision.reason, RouteReason::kHoldsContext);
  EXPECT_EQ(decision.predictions[1]->tpot_s, decision.predictions[0]->tpot_s);
  RouteCandidate large_one = large();
  large_one.decode_tokens_per_s = 0;
  EXPECT_FALSE(choose(request(RequestPolicy::kCloud), {self(), large_one}).predictions[1]) << "another model's rates";
}

TEST(RoutingTest, OfTwoDrawnNodesTheBetterIsChosen) {
  RouteCandidate busy = holder("b");
  busy.running = busy.places;
  const std::vector<RouteCandidate> candidates{self(), holder("a"), busy, holder("c")};
  std::vector<std::size_t> bounds;
  const auto decision = choose_route(request(), candidates, {}, [&](std::size_t n) {
    bounds.push_back(n);
    return bounds.size() == 1 ? 1 : n - 1;  // "b", then the last of the others
  });
  EXPECT_EQ(bounds, (std::vector<std::size_t>{3, 2}));
  EXPECT_EQ(decision.chosen, 3U);
}

TEST(RoutingTest, EqualNodesShareTheLoad) {
  std::vector<RouteCandidate> candidates{self()};
  for (int i = 0; i < 8; ++i) candidates.push_back(holder("n"));
  std::mt19937 chance(1);
  std::array<int, 9> chosen{};
  for (int i = 0; i < 8000; ++i) {
    const auto draw = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(chance); };
    ++chosen[choose_route(request(), candidates, {}, draw).chosen];
  }
  EXPECT_EQ(chosen[0], 0);
  for (int i = 1; i <= 8; ++i) EXPECT_NEAR(chosen[static_cast<std::size_t>(i)], 1000, 150) << i;
}

TEST(RoutingTest, NodesFarFromTheBestAreNotDrawn) {
  std::vector<RouteCandidate> candidates{self()};
  candidates.front().running = candidates.front().places = 1;  // slow enough that all others are clearly better
  candidates.front().queued = 10;
  for (int i = 0; i < 6; ++i) candidates.push_back(neighbour("computes"));  // 3.1 s
  candidates.push_back(holder("holds"));                                    // 1.1 s
  std::mt19937 chance(1);
  for (int i = 0; i < 100; ++i) {
    const auto draw = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(chance); };
    EXPECT_EQ(choose_route(request(), candidates, {}, draw).chosen, 7U);
  }
}

}  // namespace
}  // namespace celslm
