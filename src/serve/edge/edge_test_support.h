// For tests of edges: an edge and a cloud, both real, with a small random model and a network of function calls between
// them.
#pragma once

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <semaphore>
#include <stop_token>

#include "net/budgeted_client.h"
#include "serve/cloud/cloud_service.h"
#include "serve/cloud/model_producer.h"
#include "serve/edge/edge_service.h"
#include "tests/support/local_net.h"
#include "tests/support/manual_clock.h"
#include "tests/support/random_model.h"

namespace celslm::testing_support {

using nlohmann::json;

inline constexpr int kEdgeLayers = 4;
inline constexpr const char* kGate = R"({"state":"passed"})";  // of a cloud's tuning

// About 600 tokens: three chunks of blocks.
inline std::string long_text(char salt = 'a') {
  std::string out = "Harbour bulletin. ";
  for (int i = 0; out.size() < 600; ++i) out += fmt::format("Crate {} is in container {}{}. ", i, salt, i * 7 % 13);
  return out;
}

inline std::shared_ptr<const Model> load_random(const std::filesystem::path& path, const RandomModel& of) {
  write_random_model(path, of);
  auto model = Model::load(path);
  EXPECT_TRUE(model) << model.error().message;
  return *model;
}

inline std::shared_ptr<const Model> load_random(const std::filesystem::path& path, std::uint64_t seed, int n_filler = 0,
                                                bool key_bias = false) {
  return load_random(path, RandomModel{.n_layers = kEdgeLayers,
                                       .head_dim = 32,
                                       .n_ctx = 2048,
                                       .n_filler = n_filler,
                                       .qkv_bias = key_bias,
                                       .key_bias = 70.0F,
                                       .seed = seed});
}

// Blocks until `stop` is requested.
inline void wait_for_stop(const std::stop_token& stop) {
  std::binary_semaphore stopped(0);
  const std::stop_callback release(stop, [&] { stopped.release(); });
  stopped.acquire();
}

class EdgeFixture : public testing::Test {
 protected:
  explicit EdgeFixture(bool key_bias = false) : model_(load_random(folder_ / "small.gguf", 1, 0, key_bias)) {
    start_cloud(model_);
  }
  explicit EdgeFixture(const RandomModel& of) : model_(load_random(folder_ / "small.gguf", of)) { start_cloud(model_); }
  ~EdgeFixture() override { cloud_->shutdown(); }

  // tuning: what the cloud offers beside the model's own KV; null: nothing.
  void start_cloud(std::shared_ptr<const Model> model, std::shared_ptr<const KvTuning> tuning = {}) {
    if (cloud_) cloud_->shutdown();
    std::vector<std::shared_ptr<KvProducer>> models{*ModelProducer::create(model, {.n_threads = 1})};
    if (tuning)
      models.push_back(*ModelProducer::create(model, {.n_threads = 1}, {.constants = std::move(tuning), .gate = kGate}));
    cloud_ = *CloudService::create({.data_folder = folder_ / fmt::format("cloud{}", clouds_++)}, std::move(models), clock_,
                                   null_log());
    server_ = std::make_unique<LocalServer>();
    cloud_->add_routes(*server_);
  }

  void put(const std::string& text) {
    const HttpResponse answer =
        server_->handle({.method = "POST", .path = "/v1/contexts", .body = json{{"text", text}}.dump()});
    ASSERT_EQ(answer.status, 200) << answer.body;
  }

  struct Neighbour;

  // A fresh edge. Its packs are in the folder `data`, so that an edge can start again with what it had.
  std::unique_ptr<EdgeService> edge(Fault fault = {}, EdgeOptions options = {}, const std::string& data = "") {
    const auto folder = folder_ / (data.empty() ? fmt::format("edge{}", edges_++) : data);
    std::filesystem::create_directories(folder);
    auto local = std::make_unique<LocalClient>(*server_, std::move(fault));
    client_ = local.get();
    std::unique_ptr<HttpClient> client = std::move(local);
    if (budget_) client = std::make_unique<BudgetedClient>(std::move(client), budget_);
    options.load.budget = budget_;
    EdgeParts parts{
        .model = model_, .engine = *Engine::create(model_, {.n_threads = 1}), .clock = &clock_, .log = null_log()};
    parts.cloud = std::make_shared<CloudClient>(std::move(client), std::nullopt, folder / "key", null_log());
    for (const LocalServer* neighbour : neighbours_) {
      parts.peers.push_back(std::make_shared<CloudClient>(std::make_unique<LocalClient>(*neighbour, neighbour_fault_),
                                                          parts.cloud, null_log()));
    }
    parts.store = store_ = *PackStore::open(folder / "packs", 1U << 30, null_log(), true);
    parts.known_contexts = folder / "contexts";
    parts.spawn = spawn_;
    parts.nodes = nodes_;
    options.refresh = std::chrono::hours(1);  // tests refresh by hand
    options.hold = hold_;
    options.load.policy.prefer = prefer_;
    auto out = EdgeService::create(std::move(parts), options);
    EXPECT_TRUE(out) << out.error().message;
    (void)(*out)->refresh_contexts();  // its faults are what some tests are about
    return *std::move(out);
  }

  // Lets an edge fetch `text` and keep its pack in `data`; then the cloud has the whole pack, too.
  json fetch_and_keep(const std::string& text, const std::string& data) {
    const auto e = edge({}, {}, data);
    json answer = ask(*e, text);
    e->wait_until_loaded();  // kept after the answer, so that no user waits for a disk
    EXPECT_FALSE(store_->list().empty());
    return answer;
  }

  // An edge that shares `text` among its own users and knows no cloud: the reference.
  json local_answer(const std::string& text, const std::string& question = "Where?", const std::string& codec = "f16") {
    return local_answer(text, LoaderOptions{.codecs = CodecLadder::only(**find_codec(codec))}, question);
  }
  json local_answer(const std::string& text, const LoaderOptions& load, const std::string& question = "Where?") {
    EdgeParts parts{
        .model = model_, .engine = *Engine::create(model_, {.n_threads = 1}), .clock = &clock_, .log = null_log()};
    const auto reference = *EdgeService::create(std::move(parts), {.contexts = {text}, .load = load});
    return ask(*reference, text, question);
  }

  static json request(const std::string& system, const std::string& question) {
    return {{"messages", {{{"role", "system"}, {"content", system}}, {{"role", "user"}, {"content", question}}}},
            {"max_tokens", 12},
            {"temperature", 0},
            {"logprobs", true}};
  }
  static json ask(EdgeService& edge, const std::string& system, const std::string& question = "Where?") {
    return post(edge, request(system, question));
  }
  static json post(EdgeService& edge, const json& body, int status = 200) {
    const HttpResponse response = edge.chat_completions({.body = body.dump()});
    EXPECT_EQ(response.status, status) << response.body;
    return json::parse(response.body);
  }
  // Tokens with their probabilities: equal only if the KV was, bit by bit.
  static std::string said(const json& answer) { return answer["choices"][0].dump(); }
  static std::vector<std::string> sources(const json& answer) {
    std::vector<std::string> out;
    for (const json& layer : answer["x_celslm"]["layers"])
      out.push_back(layer["provenance"].get<std::string>() + " " + layer["source"].get<std::string>());
    return out;
  }
  static std::vector<std::string> all(const std::string& source) { return std::vector<std::string>(kEdgeLayers, source); }

  ManualClock clock_;  // stands still, unless a test moves it
  const TemporaryFolder folder_;
  const std::shared_ptr<const Model> model_;
  std::unique_ptr<CloudService> cloud_;
  std::unique_ptr<LocalServer> server_;
  LocalClient* client_ = nullptr;               // of the edge made last
  std::shared_ptr<PackStore> store_;            // the same
  std::vector<const LocalServer*> neighbours_;  // of edges to come
  Fault neighbour_fault_;
  std::vector<std::shared_ptr<NodeSource>> nodes_;  // of edges to come
  Spawn spawn_ = spawn_thread;                      // of edges to come
  std::shared_ptr<ByteBudget> budget_;              // the same; null: no limit
  // Computing only what no source gives: on a model this small computing would win every race.
  Prefer prefer_ = Prefer::kEnergy;
  std::chrono::seconds hold_{0};  // EdgeOptions::hold
  int clouds_ = 0;
  int edges_ = 0;
};

// An edge that keeps the pack of `text`, known to the edges made after it.
struct EdgeFixture::Neighbour {
  Neighbour(EdgeFixture& test, const std::string& text) : service(test.edge({}, {}, "neighbour")) {
    ask(*service, text);
    service->wait_until_loaded();
    EXPECT_FALSE(test.store_->list().empty());
    service->add_routes(server);
    test.neighbours_ = {&server};
  }
  std::unique_ptr<EdgeService> service;
  LocalServer server{"local://neighbour"};
};

}  // namespace celslm::testing_support
