// States of a cloud at an edge, of a model that libllama runs: used where all is as it should be, and otherwise computed
// here.
#include "serve/cloud/state_producer.h"
#include "serve/edge/edge_test_support.h"
#include "serve/edge/fault_test_support.h"
#include "tests/support/random_mamba.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using namespace testing_support;

// The same model at a node whose libllama is another build.
class OtherBuild final : public KvProducer {
 public:
  explicit OtherBuild(std::shared_ptr<KvProducer> inner) : inner_(std::move(inner)), hosted_(inner_->model()) {
    hosted_.fingerprint.rope = "libllama.so.9.9.9 0123456789abcdef, KV f16";
  }
  const HostedModel& model() const override { return hosted_; }
  Result<std::vector<Token>> tokens(std::string_view text) const override { return inner_->tokens(text); }
  Status produce(std::span<const Token> tokens, KvType type, std::stop_token stop, const OnRows& on_rows) override {
    return inner_->produce(tokens, type, stop, on_rows);
  }
  Result<Bytes> produce_state(std::span<const Token> tokens, std::stop_token stop) override {
    return inner_->produce_state(tokens, stop);
  }

 private:
  const std::shared_ptr<KvProducer> inner_;
  HostedModel hosted_;
};

class StateEdgeTest : public testing::TestWithParam<const char*> {
 protected:
  StateEdgeTest() {
    const auto file = folder_ / "m.gguf";
    if (GetParam() == std::string("mamba")) {
      write_random_mamba(file);
    } else {
      write_random_model(file, {.architecture = GetParam(), .n_layers = 3, .n_ctx = 2048});
    }
    model_ = *Model::load(file, {.allow_foreign = true});
    start_cloud(std::make_shared<StateProducer>(model_, 1));
  }
  ~StateEdgeTest() override { cloud_->shutdown(); }

  void start_cloud(std::shared_ptr<KvProducer> producer) {
    if (cloud_) cloud_->shutdown();
    cloud_ = *CloudService::create({.data_folder = folder_ / fmt::format("cloud{}", nodes_++)}, {std::move(producer)},
                                   clock_, null_log());
    server_ = std::make_unique<LocalServer>();
    cloud_->add_routes(*server_);
    const HttpResponse answer =
        server_->handle({.method = "POST", .path = "/v1/contexts", .body = json{{"text", context_}}.dump()});
    EXPECT_EQ(answer.status, 200) << answer.body;
  }

  struct Wiring {
    Fault fault;
    bool pinned = true;
    std::string data;
    std::vector<const LocalServer*> neighbours;
  };
  std::unique_ptr<EdgeService> edge(const Wiring& wiring) {
    const auto folder = folder_ / (wiring.data.empty() ? fmt::format("edge{}", nodes_++) : wiring.data);
    std::filesystem::create_directories(folder);
    EdgeParts parts{.model = model_, .clock = &clock_, .log = null_log()};
    parts.engine = *Engine::create(model_, {.n_threads = 1, .foreign = {.n_tokens = 4096, .n_sequences = 16}});
    const auto key = wiring.pinned ? std::optional(cloud_->public_key()) : std::nullopt;
    parts.cloud = std::make_shared<CloudClient>(std::make_unique<LocalClient>(*server_, wiring.fault), key, folder / "key",
                                                null_log());
    for (const LocalServer* neighbour : wiring.neighbours)
      parts.peers.push_back(
          std::make_shared<CloudClient>(std::make_unique<LocalClient>(*neighbour), parts.cloud, null_log()));
    parts.store = *PackStore::open(folder / "packs", 1U << 30, null_log(), true);
    EdgeOptions options{.refresh = std::chrono::hours(1), .hold = std::chrono::seconds(0)};
    options.load.policy.prefer = Prefer::kEnergy;
    auto out = EdgeService::create(std::move(parts), options);
    EXPECT_TRUE(out) << out.error().message;
    (void)(*out)->refresh_contexts();
    return *std::move(out);
  }
  json ask(EdgeService& edge) const {
    const json body{{"messages", {{{"role", "system"}, {"content", context_}}, {{"role", "user"}, {"content", "Where?"}}}},
                    {"max_tokens", 12},
                    {"temperature", 0}};
    const HttpResponse response = edge.chat_completions({.body = body.dump()});
    EXPECT_EQ(response.status, 200) << response.body;
    return json::parse(response.body);
  }
  std::string computed_answer() {
    EdgeParts parts{.model = model_, .clock = &clock_, .log = null_log()};
    parts.engine = *Engine::create(model_, {.n_threads = 1, .foreign = {.n_tokens = 4096, .n_sequences = 16}});
    return text_of(ask(**EdgeService::create(std::move(parts), {})));
  }
  void expect_computed(const json& answer, const std::string& why) {
    EXPECT_EQ(source_of(answer), "native compute");
    EXPECT_EQ(text_of(answer), computed_answer());
    EXPECT_THAT(answer["x_celslm"]["note"].get<std::string>(), HasSubstr(why));
  }
  static std::string text_of(const json& answer) { return answer["choices"][0]["message"]["content"]; }
  static std::string source_of(const json& answer) {
    const json& layers = answer["x_celslm"]["layers"];
    EXPECT_EQ(layers.size(), 1U);
    return layers[0]["provenance"].get<std::string>() + " " + layers[0]["source"].get<std::string>();
  }

  ManualClock clock_;
  const TemporaryFolder folder_;
  const std::string context_ = long_text();
  std::shared_ptr<const Model> model_;
  std::unique_ptr<CloudService> cloud_;
  std::unique_ptr<LocalServer> server_;
  int nodes_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Kinds, StateEdgeTest, testing::Values("internlm2", "mamba"));

TEST_P(StateEdgeTest, AContextComesAsAStateAndGivesTheTokensOfComputingIt) {
  const json answer = ask(*edge({}));
  EXPECT_EQ(source_of(answer), "proxy cloud");
  EXPECT_EQ(answer["x_celslm"]["codec"], "opaque");
  EXPECT_GT(answer["x_celslm"]["bytes"], 1000);
  EXPECT_EQ(text_of(answer), computed_answer());
}

TEST_P(StateEdgeTest, AStateThatWasKeptIsReadFromDiskAfterARestart) {
  const auto first = edge({.data = "kept"});
  const std::string text = text_of(ask(*first));
  first->wait_until_loaded();
  const json answer = ask(*edge({.fault = failing("connection refused"), .data = "kept"}));
  EXPECT_EQ(source_of(answer), "proxy disk");
  EXPECT_EQ(text_of(answer), text);
}

TEST_P(StateEdgeTest, ANeighbourSuppliesAStateThatTheCloudSigned) {
  const auto first = edge({});
  const std::string text = text_of(ask(*first));
  first->wait_until_loaded();
  LocalServer server("local://neighbour");
  first->add_routes(server);
  const json answer = ask(*edge({.fault = failing("connection refused"), .neighbours = {&server}}));
  EXPECT_EQ(source_of(answer), "proxy peer");
  EXPECT_EQ(text_of(answer), text);
}

TEST_P(StateEdgeTest, WithoutANamedKeyTheStateIsNotAskedFor) {
  expect_computed(ask(*edge({.pinned = false})), "--cloud-key");
}

TEST_P(StateEdgeTest, ATamperedPartIsRefused) {
  // The first part is the first of every answer that has it: it never comes as it is.
  const auto fault = changing_blocks([](Bytes& blocks) { blocks.front() ^= std::byte{1}; });
  const json answer = ask(*edge({.fault = fault}));
  EXPECT_GT(fault.struck(), 0);
  expect_computed(answer, "hash");
}

TEST_P(StateEdgeTest, AStateOfAnotherBuildOfLibllamaIsRefused) {
  start_cloud(std::make_shared<OtherBuild>(std::make_shared<StateProducer>(model_, 1)));
  expect_computed(ask(*edge({})), "libllama (");
}

TEST_P(StateEdgeTest, AStateSignedWithAnotherKeyIsRefused) {
  const auto named = *SigningKey::generate();
  const auto folder = folder_ / "other-key";
  std::filesystem::create_directories(folder);
  EdgeParts parts{.model = model_, .clock = &clock_, .log = null_log()};
  parts.engine = *Engine::create(model_, {.n_threads = 1, .foreign = {.n_tokens = 4096, .n_sequences = 16}});
  parts.cloud =
      std::make_shared<CloudClient>(std::make_unique<LocalClient>(*server_), named.public_key(), folder / "key", null_log());
  const auto e = *EdgeService::create(std::move(parts), {.contexts = {}, .load = {.policy = {.prefer = Prefer::kEnergy}}});
  (void)e->refresh_contexts();
  expect_computed(ask(*e), "key");
}

TEST_P(StateEdgeTest, ACloudThatFailsMidwayLeavesTheContextToThisBox) {
  const auto fault = dying_after(0);
  const auto e = edge({.fault = [fault](const HttpCall& call, const auto& go_on) -> Result<HttpAnswer> {
    if (call.path.contains("/header?blocks=")) return fail(ErrorKind::kUnavailable, "connection reset");
    return fault.fault(call, go_on);
  }});
  const json answer = ask(*e);
  EXPECT_EQ(source_of(answer), "native compute");
  EXPECT_EQ(text_of(answer), computed_answer());
}

TEST_P(StateEdgeTest, OtherCodecsOfSuchAModelAreNotOffered) {
  const std::string path =
      fmt::format("/v1/packs/{}/{}/f16/header", context_handle(context_).hex(), model_->fingerprint().id().hex());
  const HttpResponse refused = server_->handle({.method = "GET", .path = path});
  EXPECT_EQ(refused.status, 404);
  EXPECT_THAT(refused.body, HasSubstr("opaque"));
}

}  // namespace
}  // namespace celslm
