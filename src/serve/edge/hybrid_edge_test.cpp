// A model with recurrent layers, whose contexts are KV of some layers and a state for each of the others, at an edge beside
// its cloud.
#include <gmock/gmock.h>

#include <thread>

#include "serve/edge/edge_test_support.h"
#include "serve/edge/fault_test_support.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::changing_blocks;
using testing_support::dying_after;
using testing_support::kEdgeLayers;
using testing_support::long_text;
using testing_support::RandomModel;

class HybridEdgeTest : public testing_support::EdgeFixture, public testing::WithParamInterface<const char*> {
 protected:
  HybridEdgeTest()
      : EdgeFixture(RandomModel{.architecture = GetParam(), .n_layers = kEdgeLayers, .head_dim = 32, .n_ctx = 2048}) {}

  std::unique_ptr<EdgeService> edge_alone(const EdgeOptions& options = {}) {
    EdgeParts parts{
        .model = model_, .engine = *Engine::create(model_, {.n_threads = 1}), .clock = &clock_, .log = null_log()};
    return *EdgeService::create(std::move(parts), options);
  }
  static std::string text_of(const json& answer) { return answer["choices"][0]["message"]["content"]; }
  static int cached(const json& answer) { return answer["usage"]["prompt_tokens_details"]["cached_tokens"]; }

  const std::string text_ = long_text();
};

INSTANTIATE_TEST_SUITE_P(All, HybridEdgeTest, testing::Values("lfm2", "qwen35"));

TEST_P(HybridEdgeTest, IsRunByOurOwnEngine) {
  EXPECT_EQ(model_->foreign(), nullptr);
  EXPECT_TRUE(model_->config().has_states());
}

TEST_P(HybridEdgeTest, SaysTheSameFromTheCloudsStatesAsFromItsOwn) {
  put(text_);
  for (const char* codec : {"f16", "f16z"}) {
    const auto e = edge({}, {.load = {.codecs = CodecLadder::only(**find_codec(codec))}});
    const json answer = ask(*e, text_);
    EXPECT_EQ(sources(answer), all("proxy cloud"));
    EXPECT_EQ(said(answer), said(local_answer(text_)));
  }
}

TEST_P(HybridEdgeTest, ReadsApproximatePacksWhoseStatesAreExact) {
  put(text_);
  const auto e = edge({}, {.load = {.codecs = CodecLadder::only(**find_codec("t4"))}});
  EXPECT_EQ(sources(ask(*e, text_)), all("proxy cloud"));
}

TEST_P(HybridEdgeTest, FindsAContextOnItsDiskAfterStartingAgain) {
  put(text_);
  const json first = fetch_and_keep(text_, "kept");
  const json second = ask(*edge(dying_after(0), {}, "kept"), text_);
  EXPECT_EQ(sources(second), all("proxy disk"));
  EXPECT_EQ(said(first), said(second));
}

TEST_P(HybridEdgeTest, ComputesTheLayersThatItsCloudDoesNotSupply) {
  put(text_);
  const auto fault = dying_after(1);
  const json answer = ask(*edge(fault), text_);
  EXPECT_EQ(said(answer), said(local_answer(text_)));
  const auto from = sources(answer);
  EXPECT_THAT(from, testing::Contains("native compute"));
}

TEST_P(HybridEdgeTest, KeepsAPackThatItComputedItself) {
  put(text_);
  fetch_and_keep(text_, "other");
  prefer_ = Prefer::kBytes;  // computes all, and keeps what the cloud signed
  const auto e = edge({}, {}, "computed");
  const json first = ask(*e, text_);
  EXPECT_EQ(said(first), said(local_answer(text_)));
  e->wait_until_loaded();
  EXPECT_FALSE(store_->list().empty());
}

TEST_P(HybridEdgeTest, RefusesAStateThatWasTamperedWith) {
  put(text_);
  const auto fault = changing_blocks([](Bytes& blocks) { blocks[1] ^= std::byte{1}; });  // of the first layer: its state
  const json answer = ask(*edge(fault), text_);
  EXPECT_GT(fault.struck(), 0);
  EXPECT_EQ(said(answer), said(local_answer(text_)));
  EXPECT_THAT(answer["x_celslm"]["note"].get<std::string>(), HasSubstr("hash"));
}

TEST_P(HybridEdgeTest, UsersWhoShareAContextGetTheAnswersOfEachAlone) {
  put(text_);
  const auto sharing = edge();
  const auto alone = edge_alone({.batch = {.reuse_prefixes = false}});
  const std::vector<std::string> questions{"Where is crate 1?", "And crate 2?", "How many crates are there?", "Why?"};
  std::vector<json> together(questions.size());
  {
    std::vector<std::jthread> users;
    for (std::size_t i = 0; i < questions.size(); ++i)
      users.emplace_back([&, i] { together[i] = ask(*sharing, text_, questions[i]); });
  }
  for (std::size_t i = 0; i < questions.size(); ++i) {
    EXPECT_EQ(text_of(together[i]), text_of(ask(*alone, text_, questions[i])));
    EXPECT_EQ(together[i]["x_celslm"]["context"], context_handle(text_).hex());
  }
}

// What was computed is continued from its end, where its states are; a beginning of it cannot be.
TEST_P(HybridEdgeTest, AnEarlierTextIsUsedAgainFromItsEndOnly) {
  const auto e = edge_alone();
  const auto complete = [&](EdgeService& at, const std::string& prompt, int n_tokens) {
    const json body{{"prompt", prompt}, {"max_tokens", n_tokens}, {"temperature", 0}};
    const HttpResponse response = at.completions({.body = body.dump()});
    EXPECT_EQ(response.status, 200) << response.body;
    return json::parse(response.body);
  };
  complete(*e, text_, 1);
  const json longer = complete(*e, text_ + " The last crate is green.", 8);
  EXPECT_GT(cached(longer), 400);
  const json shorter = complete(*e, text_.substr(0, 500), 8);
  EXPECT_EQ(cached(shorter), 0);
  const auto fresh = edge_alone({.batch = {.reuse_prefixes = false}});
  const json computed = complete(*fresh, text_ + " The last crate is green.", 8);
  EXPECT_EQ(longer["choices"][0]["text"], computed["choices"][0]["text"]);
}

TEST_P(HybridEdgeTest, ATextThatBeginsWithAPartOfAContextIsComputedWithoutIt) {
  put(text_);
  const auto e = edge();
  ask(*e, text_);
  const std::string other = text_ + " And there is more.";
  const json answer = ask(*e, other);
  EXPECT_EQ(text_of(answer), text_of(ask(*edge_alone(), other)));
  EXPECT_TRUE(answer["x_celslm"]["context"].is_null());
}

}  // namespace
}  // namespace celslm
