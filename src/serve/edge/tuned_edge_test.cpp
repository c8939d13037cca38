// Contexts with a tuning: whoever adds the constants, cloud, neighbour or the edge itself, the bits are the same.
#include <random>

#include "serve/edge/edge_test_support.h"
#include "serve/edge/fault_test_support.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;
using testing_support::EdgeFixture;
using testing_support::failing;
using testing_support::LocalServer;
using testing_support::long_text;

class TunedEdgeTest : public EdgeFixture {
 protected:
  std::shared_ptr<const KvTuning> tuning(unsigned seed) const {
    KvTuning out{.id = hash_of(fmt::format("tuning {}", seed)),
                 .n_layers = model_->config().n_layers,
                 .kv_width = model_->config().kv_width()};
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0F, 0.5F);
    for (int i = 0; i < out.n_layers * out.kv_width; ++i) {
      out.k.push_back(normal(random));
      out.v.push_back(normal(random));
    }
    return std::make_shared<const KvTuning>(std::move(out));
  }

  static LoaderOptions with(std::shared_ptr<const KvTuning> tuning, const std::string& codec = "f16") {
    return {.codecs = CodecLadder::only(**find_codec(codec)), .guidance = Guidance::kTuned, .tuning = std::move(tuning)};
  }
};

TEST_F(TunedEdgeTest, FetchedAndComputedAreTheSame) {
  const std::string text = long_text();
  for (const char* codec : {"f16", "f16z", "bf16"}) {
    start_cloud(model_, tuning(1));
    put(text);
    const json fetched = ask(*edge({}, {.load = with(tuning(1), codec)}), text);
    const json computed = local_answer(text, with(tuning(1), codec));
    EXPECT_EQ(sources(fetched), all("tuned cloud")) << fetched["x_celslm"].value("note", "");
    EXPECT_EQ(sources(computed), all("tuned compute"));
    EXPECT_EQ(said(fetched), said(computed)) << codec;
    EXPECT_NE(said(computed), said(local_answer(text, "Where?", codec))) << "or nothing was tuned";
  }
}

TEST_F(TunedEdgeTest, AnApproximateCodecIsTunedToo) {
  const std::string text = long_text();
  start_cloud(model_, tuning(1));
  put(text);
  const json answer = ask(*edge({}, {.load = with(tuning(1), "t4")}), text);
  EXPECT_EQ(sources(answer), all("tuned cloud"));
  EXPECT_EQ(answer["x_celslm"]["codec"], "t4");
}

TEST_F(TunedEdgeTest, AnEdgeWithoutATuningGetsTheModelsOwnKv) {
  const std::string text = long_text();
  start_cloud(model_, tuning(1));
  put(text);
  const json answer = ask(*edge(), text);
  EXPECT_EQ(sources(answer), all("proxy cloud"));
  EXPECT_EQ(said(answer), said(local_answer(text)));
}

TEST_F(TunedEdgeTest, AnEdgeWhoseTuningTheCloudDoesNotHaveAppliesItItself) {
  const std::string text = long_text();
  for (const auto& of_cloud : {std::shared_ptr<const KvTuning>(), tuning(2)}) {
    start_cloud(model_, of_cloud);
    put(text);
    const auto e = edge({}, {.load = with(tuning(1))});
    const json answer = ask(*e, text);
    EXPECT_EQ(sources(answer), all("tuned compute"));
    EXPECT_THAT(answer["x_celslm"]["note"].get<std::string>(), HasSubstr("does not have this edge's tuning"));
    EXPECT_THAT(client_->sent(), Not(HasSubstr("/v1/packs/")));
    EXPECT_EQ(said(answer), said(local_answer(text, with(tuning(1)))));
  }
}

TEST_F(TunedEdgeTest, TwoTuningsAreTwoAnswers) {
  const std::string text = long_text();
  EXPECT_NE(said(local_answer(text, with(tuning(1)))), said(local_answer(text, with(tuning(2)))));
}

TEST_F(TunedEdgeTest, TunedKvCanBeCutAtAnyToken) {
  const std::string text = long_text();
  start_cloud(model_, tuning(1));
  put(text);
  const auto e = edge({}, {.load = with(tuning(1))});
  for (const std::string& system : {text + " It is 14:05.", text.substr(0, 300)}) {
    const json answer = ask(*e, system);
    EXPECT_EQ(answer["x_celslm"]["context"], context_handle(text).hex());
    EXPECT_EQ(answer["x_celslm"]["layers"][0]["provenance"], "tuned");
  }
}

TEST_F(TunedEdgeTest, KeepsItsPackUnderTheTuning) {
  const std::string text = long_text();
  start_cloud(model_, tuning(1));
  put(text);
  {
    const auto e = edge({}, {.load = with(tuning(1))}, "kept");
    ask(*e, text);
    e->wait_until_loaded();
  }
  EXPECT_EQ(sources(ask(*edge(failing("dead"), {.load = with(tuning(1))}, "kept"), text)), all("tuned disk"));
  EXPECT_EQ(sources(ask(*edge(failing("dead"), {.load = with(tuning(2))}, "kept"), text)), all("tuned compute"));
  EXPECT_EQ(sources(ask(*edge(failing("dead"), {}, "kept"), text)), all("native compute"));
}

TEST_F(TunedEdgeTest, NeighboursExchangeItOnlyWithTheSameTuning) {
  const std::string text = long_text();
  start_cloud(model_, tuning(1));
  put(text);
  const auto neighbour = edge({}, {.load = with(tuning(1))}, "neighbour");
  const json first = ask(*neighbour, text);
  neighbour->wait_until_loaded();
  LocalServer server{"local://neighbour"};
  neighbour->add_routes(server);
  neighbours_ = {&server};
  const json same = ask(*edge(failing("dead"), {.load = with(tuning(1))}), text);
  EXPECT_EQ(sources(same), all("tuned peer"));
  EXPECT_EQ(said(same), said(first));
  EXPECT_EQ(sources(ask(*edge(failing("dead"), {.load = with(tuning(2))}), text)), all("tuned compute"));
  EXPECT_EQ(sources(ask(*edge(failing("dead")), text)), all("native compute"));
}

TEST_F(TunedEdgeTest, ATuningOfAnotherShapeIsRefusedAtTheStart) {
  auto other = std::make_shared<KvTuning>(*tuning(1));
  other->n_layers -= 1;
  EdgeParts parts{.model = model_, .engine = *Engine::create(model_, {.n_threads = 1}), .clock = &clock_, .log = null_log()};
  const auto refused = EdgeService::create(std::move(parts), {.load = with(other)});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kMismatch);
}

TEST_F(TunedEdgeTest, TheCloudSaysWhatItServes) {
  const std::string text = long_text();
  start_cloud(model_, tuning(1));
  put(text);
  const auto get = [&](const std::string& path) {
    const HttpResponse answer = server_->handle({.method = "GET", .path = path});
    EXPECT_EQ(answer.status, 200) << answer.body;
    return json::parse(answer.body);
  };
  const std::string id = tuning(1)->id.hex();
  const json models = get("/v1/models")["models"];
  ASSERT_EQ(models.size(), 2U);
  EXPECT_FALSE(models[0].contains("tuning"));
  EXPECT_EQ(models[1]["tuning"]["id"], id);
  EXPECT_EQ(models[1]["tuning"]["gate"]["state"], "passed");
  const json guidance = get("/v1/contexts/" + context_handle(text).hex())["guidance"];
  ASSERT_EQ(guidance.size(), 1U);
  EXPECT_EQ(guidance[0]["provenance"], "tuned");
  EXPECT_EQ(guidance[0]["id"], id);
  EXPECT_EQ(guidance[0]["model"], model_->fingerprint().id().hex());
  EXPECT_EQ(guidance[0]["gate"]["state"], "passed");
}

TEST_F(TunedEdgeTest, TheCloudNamesATuningThatItDoesNotHave) {
  const std::string text = long_text();
  start_cloud(model_, tuning(1));
  put(text);
  const std::string path = pack_path(context_handle(text), model_->fingerprint().id(), "f16", "header");
  for (const std::string& id : {tuning(2)->id.hex(), std::string("zz")}) {
    const HttpResponse answer = server_->handle({.method = "GET", .path = path, .parameters = {{"tuning", id}}});
    EXPECT_EQ(answer.status, 404);
    EXPECT_EQ(json::parse(answer.body)["error"]["code"], "unknown_tuning") << answer.body;
  }
}

}  // namespace
}  // namespace celslm
