#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <latch>
#include <thread>

#include "serve/edge/edge_test_support.h"
#include "serve/edge/fault_test_support.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::long_text;
using testing_support::only_packs;

class LoadMetricsTest : public testing_support::EdgeFixture {
 protected:
  static double counter(EdgeService& edge, const std::string& name) {
    const std::string page = edge.metrics().body;
    const auto at = page.find("\n" + name + " ");
    return at == std::string::npos ? 0 : std::stod(page.substr(at + name.size() + 2));
  }

  // The x_celslm of an answer that was begun as a stream.
  static json extension(const HttpResponse& response) {
    json out;
    EXPECT_TRUE(response.stream([&](std::string_view event) {
      const std::string_view data = event.substr(6);
      if (!data.starts_with("[DONE]")) {
        const json chunk = json::parse(data);
        if (chunk.contains("x_celslm")) out = chunk["x_celslm"];
      }
      return true;
    }));
    return out;
  }
};

TEST_F(LoadMetricsTest, ALoadCountsOnceHoweverManyRequestsWaitForIt) {
  constexpr int kRequests = 16;
  put(long_text());
  fetch_and_keep(long_text(), "other");
  const auto gate = std::make_shared<std::latch>(1);
  const auto e = edge(only_packs([gate](const HttpCall&, const auto& go_on) -> Result<HttpAnswer> {
    gate->wait();
    return go_on();
  }));
  json body = request(long_text(), "Where?");
  body["stream"] = true;
  std::vector<HttpResponse> waiting;
  for (int i = 0; i < kRequests; ++i) waiting.push_back(e->chat_completions({.body = body.dump()}));
  gate->count_down();

  std::vector<json> extensions;
  for (const HttpResponse& response : waiting) extensions.push_back(extension(response));
  const double bytes = extensions.front()["bytes"];
  EXPECT_GT(bytes, 0);
  EXPECT_EQ(extensions.front()["load"]["joined"], false);
  for (std::size_t i = 1; i < extensions.size(); ++i) {
    EXPECT_EQ(extensions[i]["bytes"], 0) << i;
    EXPECT_EQ(extensions[i]["load"]["joined"], true) << i;
    EXPECT_EQ(extensions[i]["layers"], extensions.front()["layers"]) << "but it says where its KV came from";
  }
  e->wait_until_loaded();
  EXPECT_EQ(counter(*e, R"(celslm_edge_fetched_bytes_total{source="cloud"})"), bytes);
  EXPECT_EQ(counter(*e, R"(celslm_edge_loads_total{codec="f16"})"), 1);
  EXPECT_EQ(counter(*e, R"(celslm_edge_layers_total{source="cloud"})"), testing_support::kEdgeLayers);
}

TEST_F(LoadMetricsTest, CountsWhatWasLoadedForNobody) {
  put(long_text());
  const auto e = edge({}, {.max_prefetched = 1});
  e->use_idle_time();
  e->wait_until_loaded();
  EXPECT_GT(counter(*e, R"(celslm_edge_fetched_bytes_total{source="cloud"})"), 0);
  EXPECT_EQ(counter(*e, R"(celslm_edge_loads_total{codec="f16"})"), 1);
  const json answer = ask(*e, long_text());
  EXPECT_EQ(answer["x_celslm"]["bytes"], 0);
  EXPECT_EQ(counter(*e, R"(celslm_edge_loads_total{codec="f16"})"), 1);
}

TEST_F(LoadMetricsTest, CountsWhatHasAnotherHashOrSignatureThanItShould) {
  put(long_text());
  fetch_and_keep(long_text(), "other");
  const auto damaged = testing_support::changing_blocks([](Bytes& blocks) { blocks[0] ^= std::byte{1}; });
  const auto e = edge(damaged);
  ask(*e, long_text());
  e->wait_until_loaded();
  EXPECT_GT(damaged.struck(), 0);
  EXPECT_GT(counter(*e, R"(celslm_edge_refused_total{source="cloud"})"), 0);

  const auto whole = edge();
  ask(*whole, long_text());
  EXPECT_EQ(counter(*whole, R"(celslm_edge_refused_total{source="cloud"})"), 0);
}

TEST_F(LoadMetricsTest, ShowsWhetherTheCloudCanBeReachedAndWhatRunsHere) {
  std::atomic<bool> dead = false;
  const auto e = edge([&](const HttpCall&, const auto& go_on) -> Result<HttpAnswer> {
    if (dead) return fail(ErrorKind::kUnavailable, "no route");
    return go_on();
  });
  EXPECT_EQ(counter(*e, "celslm_edge_cloud_reachable"), 1);
  dead = true;
  EXPECT_FALSE(e->refresh_contexts());
  EXPECT_THAT(e->metrics().body, HasSubstr("\ncelslm_edge_cloud_reachable 0\n"));
  EXPECT_GT(counter(*e, "celslm_disk_free_bytes"), 0);
  EXPECT_THAT(e->metrics().body, HasSubstr("\ncelslm_build_info{"));
}

TEST(EdgeMetricsTest, ScrapingTwiceAtOnceChangesNothing) {
  constexpr int kScrapes = 300;
  EdgeMetrics metrics;
  const ContextTable contexts(1);
  std::barrier together(2);
  {
    const auto scrape = [&] {
      for (std::uint64_t steps = 1; steps <= kScrapes; ++steps) {
        together.arrive_and_wait();
        metrics.text({.steps = steps}, contexts, nullptr, 0);
      }
    };
    const std::jthread one(scrape);
    const std::jthread other(scrape);
  }
  EXPECT_THAT(metrics.text({.steps = kScrapes}, contexts, nullptr, 0), HasSubstr("celslm_edge_steps_total 300\n"));
}

}  // namespace
}  // namespace celslm
