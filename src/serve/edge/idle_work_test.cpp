#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "serve/edge/edge_test_support.h"
#include "serve/edge/fault_test_support.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::failing;
using testing_support::long_text;
using testing_support::PackFault;

class IdleWorkTest : public testing_support::EdgeFixture {
 protected:
  // f16, and t4 as measured on this model.
  CodecLadder ladder() const {
    const json line = {
        {"name", "t4"}, {"model_id", model_->fingerprint().id().hex()}, {"bits_per_value", 4.1}, {"loss", 1.5}};
    return *CodecLadder::from_measurements(json{{"version", 2}, {"codecs", {line}}}.dump(), model_->fingerprint().id());
  }

  // Waits until nothing is loaded and no request runs. The loop's thread counts a request as ended a moment after its
  // client has the answer, and tells nobody: so it is asked again.
  static void wait_until_idle(const EdgeService& edge) {
    edge.wait_until_loaded();
    while (edge.requests_under_way() > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  // Gives the edge idle time for n contexts, one after the other.
  static void idle_until_loaded(EdgeService& edge, const std::string& why, int n = 1) {
    const std::string counted = fmt::format("celslm_edge_idle_loads_total{{why=\"{}\"}} {}", why, n);
    for (int i = 0; i < n; ++i) {
      wait_until_idle(edge);
      edge.use_idle_time();
    }
    edge.wait_until_loaded();
    EXPECT_THAT(edge.metrics().body, HasSubstr(counted));
  }
};

TEST_F(IdleWorkTest, TakesTheCodecOfFewestBitsFromALinkThatIsNotMeasured) {
  put(long_text());
  const auto e = edge({}, {.load = {.codecs = ladder()}});
  const json answer = ask(*e, long_text());
  EXPECT_EQ(answer["x_celslm"]["codec"], "t4");
  EXPECT_THAT(answer["x_celslm"]["codec_reason"].get<std::string>(), HasSubstr("not measured"));
  EXPECT_EQ(sources(answer), all("proxy cloud"));
  EXPECT_THAT(e->metrics().body, HasSubstr(R"(celslm_edge_loads_total{codec="t4"} 1)"));
}

TEST_F(IdleWorkTest, PutsExactKvInPlaceOfACoarseOneOnceIdle) {
  put(long_text());
  const auto e = edge({}, {.refine = true, .load = {.codecs = ladder()}});
  EXPECT_EQ(ask(*e, long_text())["x_celslm"]["codec"], "t4");
  idle_until_loaded(*e, "refine");
  const json answer = ask(*e, long_text());
  EXPECT_EQ(answer["x_celslm"]["codec"], "f16");
  EXPECT_EQ(sources(answer), all("proxy memory"));
  EXPECT_EQ(said(answer), said(local_answer(long_text())));
}

TEST_F(IdleWorkTest, LeavesACoarseContextAsItIsUnlessToldToRefine) {
  put(long_text());
  const auto e = edge({}, {.load = {.codecs = ladder()}});
  ask(*e, long_text());
  for (int i = 0; i < 20; ++i) {
    wait_until_idle(*e);
    e->use_idle_time();
  }
  EXPECT_EQ(ask(*e, long_text())["x_celslm"]["codec"], "t4");
}

TEST_F(IdleWorkTest, KeepsACoarseContextWhereItIsAllThereIs) {
  put(long_text());
  const PackFault dead = failing("no exact pack today", "/f16/");
  const auto e = edge(dead, {.refine = true, .load = {.codecs = ladder()}});
  ask(*e, long_text());
  for (int i = 0; i < 3; ++i) {
    wait_until_idle(*e);
    e->use_idle_time();
  }
  e->wait_until_loaded();
  EXPECT_GT(dead.struck(), 0);
  EXPECT_EQ(ask(*e, long_text())["x_celslm"]["codec"], "t4");
}

TEST_F(IdleWorkTest, StartsAgainFromTheBestPackOnDisk) {
  put(long_text());
  {
    const auto e = edge({}, {.refine = true, .load = {.codecs = ladder()}}, "data");
    ask(*e, long_text());
    idle_until_loaded(*e, "refine");
    EXPECT_EQ(store_->list().size(), 2U);
  }
  const json answer = ask(*edge({}, {.load = {.codecs = ladder()}}, "data"), long_text());
  EXPECT_EQ(answer["x_celslm"]["codec"], "f16");
  EXPECT_EQ(sources(answer), all("proxy disk"));
}

TEST_F(IdleWorkTest, PrefetchesAsManyContextsAsItMay) {
  for (const char salt : {'a', 'b', 'c'}) put(long_text(salt));
  const auto e = edge({}, {.max_prefetched = 2});
  idle_until_loaded(*e, "prefetch", 2);
  for (int i = 0; i < 20; ++i) {
    wait_until_idle(*e);
    e->use_idle_time();
  }
  EXPECT_THAT(e->metrics().body, HasSubstr("celslm_edge_resident_contexts 2\n"));
}

TEST_F(IdleWorkTest, PrefetchesNothingThatWouldPushOutWhatIsUsed) {
  put(long_text());
  const auto e = edge({}, {.context_budget_bytes = 1000, .max_prefetched = 2});
  for (int i = 0; i < 20; ++i) {
    wait_until_idle(*e);
    e->use_idle_time();
  }
  EXPECT_THAT(e->metrics().body, HasSubstr("celslm_edge_resident_contexts 0\n"));
}

}  // namespace
}  // namespace celslm
