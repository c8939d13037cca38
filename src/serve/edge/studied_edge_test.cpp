// Studied contexts from a folder at the cloud to an answer at the edge, and what happens where there are none.
#include <fstream>

#include "kv/studied/studied.h"
#include "model/engine/prefill.h"
#include "serve/edge/edge_test_support.h"
#include "serve/edge/fault_test_support.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;
using testing_support::changing_blocks;
using testing_support::dying_after;
using testing_support::EdgeFixture;
using testing_support::failing;
using testing_support::Fault;
using testing_support::load_random;
using testing_support::long_text;

class StudiedEdgeTest : public EdgeFixture {
 protected:
  StudiedEdgeTest() { std::filesystem::create_directories(studied_folder()); }

  std::filesystem::path studied_folder() const { return folder_ / "studied"; }

  // Every `step`-th row of the context's own KV, as a trainer would hand it over.
  StudiedContext study_of(const std::string& text, int step) const {
    const ModelConfig& config = model_->config();
    StudiedContext out{.model = model_->fingerprint().id(),
                       .context = context_handle(text),
                       .tokens = model_->text().context(text).value(),
                       .n_kv_heads = config.n_kv_heads,
                       .head_dim = config.head_dim};
    const auto n_tokens = static_cast<int>(out.tokens.size());
    out.kv = {.n_rows = (n_tokens + step - 1) / step, .n_tokens = n_tokens};
    out.kv.layers.resize(static_cast<std::size_t>(config.n_layers));
    const auto engine = Engine::create(model_, {.n_threads = 1}).value();
    auto segment = KvSegment::create(config, KvType::kF16, 0, n_tokens).value();
    auto prefill = ContextPrefill::start(*engine, out.tokens, std::move(segment)).value();
    const auto width = static_cast<std::size_t>(config.kv_width());
    const auto keep = [&](int layer, int first_row, std::span<const float> k, std::span<const float> v) {
      CondensedLayer& to = out.kv.layers[static_cast<std::size_t>(layer)];
      for (std::size_t at = 0; at < k.size(); at += width) {
        if ((first_row + static_cast<int>(at / width)) % step != 0) continue;
        to.k.insert(to.k.end(), k.begin() + static_cast<std::ptrdiff_t>(at),
                    k.begin() + static_cast<std::ptrdiff_t>(at + width));
        to.v.insert(to.v.end(), v.begin() + static_cast<std::ptrdiff_t>(at),
                    v.begin() + static_cast<std::ptrdiff_t>(at + width));
      }
    };
    while (!prefill.finished()) EXPECT_TRUE(prefill.advance(keep));
    for (CondensedLayer& layer : out.kv.layers) {
      for (int i = 0; i < config.n_kv_heads * out.kv.n_rows; ++i) layer.positions.push_back(i % out.kv.n_rows * step);
      layer.log_mass.assign(layer.positions.size(), std::log(static_cast<float>(step)));
    }
    return out;
  }

  // A cloud that offers this study, and the text registered at it.
  void study(const std::string& text, int step) {
    ASSERT_TRUE(write_studied(studied_folder() / "a.gguf", study_of(text, step)));
    start_studied_cloud();
    put(text);
  }

  void start_studied_cloud() {
    cloud_->shutdown();
    std::vector<std::shared_ptr<KvProducer>> models{*ModelProducer::create(model_, {.n_threads = 1})};
    cloud_ = *CloudService::create(
        {.data_folder = folder_ / fmt::format("cloud{}", clouds_++), .studied_folder = studied_folder()}, std::move(models),
        clock_, null_log());
    server_ = std::make_unique<testing_support::LocalServer>();
    cloud_->add_routes(*server_);
  }

  static EdgeOptions studied(const char* codec = "f16") {
    return {.load = {.codecs = CodecLadder::only(**find_codec(codec)), .guidance = Guidance::kStudied}};
  }

  static std::string note(const json& answer) { return answer["x_celslm"].value("note", ""); }
};

TEST_F(StudiedEdgeTest, ARowForEachTokenGivesTheAnswerOfTheContextItself) {
  const std::string text = long_text();
  study(text, 1);
  const json answer = ask(*edge({}, studied()), text);
  EXPECT_EQ(sources(answer), all("studied cloud")) << note(answer);
  EXPECT_EQ(said(answer), said(local_answer(text)));
}

TEST_F(StudiedEdgeTest, CountsInFullOnly) {
  const std::string text = long_text();
  study(text, 2);
  const auto e = edge({}, studied());
  EXPECT_EQ(ask(*e, text)["x_celslm"]["context"], context_handle(text).hex());
  for (const std::string& system : {text + " It is 14:05.", text.substr(0, 300)})
    EXPECT_TRUE(ask(*e, system)["x_celslm"]["context"].is_null()) << system;
}

TEST_F(StudiedEdgeTest, EverySecondRowIsHalfTheBytesAndStandsForAllTokens) {
  const std::string text = long_text();
  study(text, 2);
  const json whole = ask(*edge(), text);
  const auto e = edge({}, studied());
  const json half = ask(*e, text);
  EXPECT_EQ(sources(whole), all("proxy cloud"));
  EXPECT_EQ(sources(half), all("studied cloud")) << note(half);
  EXPECT_NE(said(half), said(whole));
  EXPECT_EQ(half["usage"]["prompt_tokens"], whole["usage"]["prompt_tokens"]);
  EXPECT_EQ(half["x_celslm"]["context_tokens"], whole["x_celslm"]["context_tokens"]);
  // Half of K and V; 8 bytes of places beside 128 of K and V of a row.
  EXPECT_NEAR(half["x_celslm"]["bytes"].get<double>() / whole["x_celslm"]["bytes"].get<double>(), 0.53, 0.02);
  EXPECT_EQ(sources(ask(*e, text)), all("studied memory"));
  EXPECT_EQ(said(ask(*e, text)), said(half));
}

TEST_F(StudiedEdgeTest, EveryCodecCarriesIt) {
  const std::string text = long_text();
  study(text, 2);
  const json exact = ask(*edge({}, studied()), text);
  EXPECT_EQ(said(ask(*edge({}, studied("f16z")), text)), said(exact));
  for (const char* codec : {"bf16", "q8", "t4", "t2"}) {
    const json answer = ask(*edge({}, studied(codec)), text);
    EXPECT_EQ(sources(answer), all("studied cloud")) << codec << ": " << note(answer);
    EXPECT_EQ(answer["x_celslm"]["codec"], codec);
  }
}

TEST_F(StudiedEdgeTest, ContextsInEightBitsWorkToo) {
  const std::string text = long_text();
  study(text, 2);
  EdgeOptions options = studied();
  options.batch.kv_type = KvType::kQ8;
  EXPECT_EQ(sources(ask(*edge({}, options), text)), all("studied cloud"));
}

TEST_F(StudiedEdgeTest, AnEdgeThatDoesNotWantItGetsTheModelsOwn) {
  const std::string text = long_text();
  study(text, 2);
  const json answer = ask(*edge(), text);
  EXPECT_EQ(sources(answer), all("proxy cloud"));
  EXPECT_EQ(said(answer), said(local_answer(text)));
}

TEST_F(StudiedEdgeTest, AContextThatNobodyStudiedIsTheModelsOwnAndTheNoteSaysSo) {
  study(long_text('a'), 2);
  const std::string other = long_text('b');
  put(other);
  const json answer = ask(*edge({}, studied()), other);
  EXPECT_EQ(sources(answer), all("proxy cloud"));
  EXPECT_THAT(note(answer), HasSubstr("no studied KV of this context"));
  EXPECT_EQ(said(answer), said(local_answer(other)));
}

TEST_F(StudiedEdgeTest, ADeadCloudCostsTheStudyNotTheAnswer) {
  const std::string text = long_text();
  study(text, 2);
  const auto dead = failing("no route");
  const json answer = ask(*edge(dead, studied()), text);
  EXPECT_GT(dead.struck(), 0);
  EXPECT_EQ(sources(answer), all("native compute"));
  EXPECT_THAT(note(answer), HasSubstr("no route"));
  EXPECT_EQ(said(answer), said(local_answer(text)));
}

// Each layer is what it is as a whole; what follows does not care.
TEST_F(StudiedEdgeTest, LayersThatDidNotArriveAreComputed) {
  const std::string text = long_text();
  study(text, 2);
  EdgeOptions options = studied();
  options.load.n_connections = 1;
  const auto dying = dying_after(0);
  const json answer = ask(*edge(dying, options), text);
  EXPECT_GT(dying.struck(), 0);
  EXPECT_THAT(sources(answer), Contains("native compute"));
  EXPECT_EQ(answer["choices"][0]["message"]["role"], "assistant");
}

TEST_F(StudiedEdgeTest, BlocksThatWereChangedOnTheWayAreNotUsed) {
  const std::string text = long_text();
  study(text, 2);
  const auto lying = changing_blocks([](Bytes& blocks) {
    for (std::byte& byte : blocks) byte ^= std::byte{1};
  });
  const json answer = ask(*edge(lying, studied()), text);
  EXPECT_GT(lying.struck(), 0);
  EXPECT_EQ(sources(answer), all("native compute"));
  EXPECT_EQ(said(answer), said(local_answer(text)));
}

TEST_F(StudiedEdgeTest, IsFoundOnTheDiskAfterAStart) {
  const std::string text = long_text();
  study(text, 2);
  std::string first;
  {
    const auto e = edge({}, studied(), "kept");
    first = said(ask(*e, text));
    e->wait_until_loaded();
  }
  const json again = ask(*edge(failing("no route"), studied(), "kept"), text);
  EXPECT_EQ(sources(again), all("studied disk"));
  EXPECT_EQ(said(again), first);
}

TEST_F(StudiedEdgeTest, AStudyOfOtherTokensIsRefusedByTheCloud) {
  const std::string text = long_text();
  StudiedContext wrong = study_of(text, 2);
  wrong.tokens[3] += 1;
  ASSERT_TRUE(write_studied(studied_folder() / "a.gguf", wrong));
  start_studied_cloud();
  put(text);
  const json answer = ask(*edge({}, studied()), text);
  EXPECT_EQ(sources(answer), all("native compute"));
  EXPECT_THAT(note(answer), HasSubstr("tokens"));
}

TEST_F(StudiedEdgeTest, ALibraryLeavesOutWhatItCannotServe) {
  const std::string text = long_text();
  const StudiedContext good = study_of(text, 2);
  StudiedContext foreign = good;
  foreign.model = hash_of("another model");
  ASSERT_TRUE(write_studied(studied_folder() / "a.gguf", foreign));
  std::ofstream(studied_folder() / "b.gguf") << "GGUF, but not really";
  ASSERT_TRUE(write_studied(studied_folder() / "c.gguf", good));
  ASSERT_TRUE(write_studied(studied_folder() / "d.gguf", study_of(text, 4)));
  start_studied_cloud();
  EXPECT_EQ(cloud_->n_studied(), 1U);
  put(text);
  const json listed = json::parse(server_->handle({.method = "GET", .path = "/v1/contexts"}).body)["contexts"][0];
  ASSERT_EQ(listed["studied"].size(), 1U);
  EXPECT_EQ(listed["studied"][0]["n_rows"], good.kv.n_rows);
  EXPECT_EQ(listed["studied"][0]["model"], good.model.hex());
}

TEST_F(StudiedEdgeTest, TheCloudTellsWhatItOffersOfAContext) {
  const std::string text = long_text();
  study(text, 2);
  const json shown =
      json::parse(server_->handle({.method = "GET", .path = "/v1/contexts/" + context_handle(text).hex()}).body)["guidance"];
  ASSERT_EQ(shown.size(), 1U);
  EXPECT_EQ(shown[0]["provenance"], "studied");
  EXPECT_EQ(shown[0]["model"], model_->fingerprint().id().hex());
  const std::string path =
      "/v1/packs/" + context_handle(text).hex() + "/" + model_->fingerprint().id().hex() + "/f16/header";
  const auto status = [&](const std::string& study) {
    return server_->handle({.method = "GET", .path = path, .parameters = {{"study", study}}}).status;
  };
  EXPECT_EQ(status(shown[0]["id"]), 200);
  EXPECT_EQ(status(hash_of("another").hex()), 404);
  EXPECT_EQ(status("xyz"), 404);
}

}  // namespace
}  // namespace celslm
