#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <set>
#include <thread>

#include "serve/edge/edge_test_support.h"
#include "serve/edge/fault_test_support.h"
#include "serve/load/load_parts.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::HasSubstr;
using testing::Not;
using testing_support::answering;
using testing_support::changing_blocks;
using testing_support::dying_after;
using testing_support::failing;
using testing_support::Fault;
using testing_support::load_random;
using testing_support::LocalServer;
using testing_support::long_text;
using testing_support::only_packs;
using testing_support::PackFault;
using testing_support::running_out_of_memory;

constexpr int kLayers = testing_support::kEdgeLayers;

class EdgeServiceTest : public testing_support::EdgeFixture {};

TEST_F(EdgeServiceTest, SaysTheSameFromTheCloudsKvAsFromItsOwn) {
  for (const char* codec : {"f16", "bf16"}) {
    const std::string text = long_text();
    put(text);
    const auto e = edge({}, {.load = {.codecs = CodecLadder::only(**find_codec(codec))}});
    const json answer = ask(*e, text);
    EXPECT_EQ(sources(answer), all("proxy cloud"));
    EXPECT_GT(answer["x_celslm"]["bytes"], 0);
    EXPECT_EQ(said(answer), said(local_answer(text, "Where?", codec)));
  }
}

TEST_F(EdgeServiceTest, KeepsContextsInEightBitsWhenAsked) {
  const std::string text = long_text();
  put(text);
  const auto bytes_of = [&](KvType type) {
    const auto e = edge({}, {.batch = {.kv_type = type}});
    const json answer = ask(*e, text);
    EXPECT_EQ(sources(answer), all("proxy cloud"));
    const std::string metrics = e->metrics().body;
    const std::string name = "\ncelslm_edge_context_kv_bytes ";
    return std::stod(metrics.substr(metrics.find(name) + name.size()));
  };
  EXPECT_NEAR(bytes_of(KvType::kQ8) / bytes_of(KvType::kF16), 34.0 / 64.0, 0.01);
}

TEST_F(EdgeServiceTest, RefusesToStartWithKvThatTheModelCannotHave) {
  testing_support::write_random_model(folder_ / "narrow.gguf", {.n_heads = 4, .n_kv_heads = 4, .head_dim = 16});
  const auto narrow = *Model::load(folder_ / "narrow.gguf");
  EdgeParts parts{.model = narrow, .engine = *Engine::create(narrow, {.n_threads = 1}), .clock = &clock_, .log = null_log()};
  const auto refused = EdgeService::create(std::move(parts), {.batch = {.kv_type = KvType::kQ8}});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("q8"));
}

TEST_F(EdgeServiceTest, CompletesTextsWithAModelThatCannotChat) {
  testing_support::write_random_model(folder_ / "base.gguf", {.head_dim = 32, .chat_template = ""});
  const auto model = *Model::load(folder_ / "base.gguf");
  EdgeParts parts{.model = model, .engine = *Engine::create(model, {.n_threads = 1}), .clock = &clock_, .log = null_log()};
  const auto e = *EdgeService::create(std::move(parts), {.contexts = {"the thing"}});
  EXPECT_THAT(post(*e, request("the thing", "Where?"), 400)["error"]["message"], HasSubstr("carries no chat template"));
  const json completion = {{"prompt", "the thing"}, {"max_tokens", 3}};
  EXPECT_EQ(e->completions({.body = completion.dump()}).status, 200);
}

// The template writes the system message behind what the user wrote: no two chats begin alike.
TEST_F(EdgeServiceTest, AnswersOnItsOwnWhereTheTemplateKeepsAContextFromBeingShared) {
  testing_support::write_random_model(
      folder_ / "behind.gguf",
      {.head_dim = 32,
       .chat_template = "{% for m in messages %}{% if m.role == 'user' %}{{ '<|im_start|>' + m.content + '\n' + "
                        "messages[0].content + '<|im_end|>' }}{% endif %}{% endfor %}"});
  const auto model = *Model::load(folder_ / "behind.gguf");
  EdgeParts parts{.model = model, .engine = *Engine::create(model, {.n_threads = 1}), .clock = &clock_, .log = null_log()};
  const auto e = *EdgeService::create(std::move(parts), {.contexts = {"the thing"}});
  const json alone = ask(*e, "the thing")["x_celslm"];
  EXPECT_TRUE(alone["context"].is_null());
  EXPECT_THAT(alone["note"], HasSubstr("contexts cannot be shared"));
  json named = request("", "Where?");
  named["messages"].erase(0);
  named["x_celslm"]["context"] = context_handle("the thing").hex();
  EXPECT_THAT(post(*e, named, 400)["error"]["message"], HasSubstr("contexts cannot be shared"));
}

TEST_F(EdgeServiceTest, ReadsApproximatePacksAndSaysWhichCodec) {
  const std::string text = long_text();
  put(text);
  for (const char* codec : {"q8", "t3"}) {
    const auto e = edge({}, {.load = {.codecs = CodecLadder::only(**find_codec(codec))}});
    const json answer = ask(*e, text);
    EXPECT_EQ(sources(answer), all("proxy cloud"));
    EXPECT_EQ(answer["x_celslm"]["codec"], codec);
  }
}

TEST_F(EdgeServiceTest, FindsAContextInMemoryTheSecondTime) {
  const std::string text = long_text();
  put(text);
  const auto e = edge();
  const json first = ask(*e, text);
  const json second = ask(*e, text);
  EXPECT_EQ(sources(second), all("proxy memory"));
  EXPECT_EQ(second["x_celslm"]["bytes"], 0);
  EXPECT_EQ(said(first), said(second));
}

TEST_F(EdgeServiceTest, FindsAContextOnItsDiskAfterStartingAgainEvenWithoutItsCloud) {
  const std::string text = long_text();
  put(text);
  const json first = fetch_and_keep(text, "kept");
  const Fault dead = [](const HttpCall& call, const auto& go_on) -> Result<HttpAnswer> {
    if (call.path.starts_with("/v1/contexts")) return go_on();
    return fail(ErrorKind::kUnavailable, "no route");
  };
  const auto again = edge(dead, {}, "kept");
  const json second = ask(*again, text);
  EXPECT_EQ(sources(second), all("proxy disk"));
  EXPECT_EQ(said(first), said(second));
}

TEST_F(EdgeServiceTest, ComputesWhatIsDamagedOnItsDisk) {
  const std::string text = long_text();
  put(text);
  const json first = fetch_and_keep(text, "kept");
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "kept" / "packs")) {
    if (entry.file_size() < 10'000) continue;
    std::FILE* file = std::fopen(entry.path().c_str(), "r+b");
    std::fseek(file, -1, SEEK_END);  // in the last layer
    std::fputc('x', file);
    std::fclose(file);
  }
  const Fault dead = [](const HttpCall& call, const auto& go_on) -> Result<HttpAnswer> {
    if (call.path.starts_with("/v1/contexts")) return go_on();
    return fail(ErrorKind::kUnavailable, "no route");
  };
  const auto again = edge(dead, {}, "kept");
  const json second = ask(*again, text);
  EXPECT_EQ(second["x_celslm"]["layers"].back()["blocks"]["compute"], 1);
  EXPECT_EQ(said(first), said(second));
}

TEST_F(EdgeServiceTest, UsesAContextNamedByItsHandle) {
  const std::string text = long_text();
  put(text);
  const auto e = edge();
  json body = request("", "Where?");
  body["messages"].erase(0);
  body["x_celslm"] = {{"context", context_handle(text).hex()}};
  EXPECT_EQ(said(post(*e, body)), said(ask(*e, text)));
}

TEST_F(EdgeServiceTest, SaysWhichContextItDoesNotKnow) {
  const auto e = edge();
  json body = request("x", "Where?");
  body["messages"].erase(0);
  body["x_celslm"] = {{"context", context_handle("never registered").hex()}};
  const json answer = post(*e, body, 404);
  EXPECT_EQ(answer["error"]["code"], "unknown_context");
  EXPECT_THAT(answer["error"]["message"].get<std::string>(), HasSubstr(context_handle("never registered").hex()));
}

TEST_F(EdgeServiceTest, KeepsSystemMessagesThatAreNotRegisteredToItself) {
  const auto e = edge();
  const json answer = ask(*e, "A private instruction, marked QXJZ.");
  EXPECT_TRUE(answer["x_celslm"]["context"].is_null());
  EXPECT_THAT(client_->sent(), Not(HasSubstr("QXJZ")));
  EXPECT_THAT(client_->sent(), Not(HasSubstr(context_handle("A private instruction, marked QXJZ.").hex())));
}

TEST_F(EdgeServiceTest, SendsNothingOfAPromptToTheCloud) {
  const std::string text = long_text();
  put(text);
  const auto e = edge();
  const json answer = ask(*e, text, "My secret is QXJZ-4711.");
  EXPECT_EQ(sources(answer), all("proxy cloud"));
  EXPECT_THAT(client_->sent(), HasSubstr("/v1/packs/"));
  for (const char* part : {"QXJZ", "4711", "secret"}) EXPECT_THAT(client_->sent(), Not(HasSubstr(part)));
}

// Otherwise the first request for a context that was just listed would be answered without the map.
TEST_F(EdgeServiceTest, LearnsOfMapsBeforeItLearnsOfContexts) {
  const auto e = edge({}, {.load = {.guidance = Guidance::kMapped}});
  const std::string sent = client_->sent();
  ASSERT_THAT(sent, testing::AllOf(HasSubstr("/v1/models"), HasSubstr("/v1/contexts")));
  EXPECT_LT(sent.find("/v1/models"), sent.find("/v1/contexts"));
}

TEST_F(EdgeServiceTest, RefusesAContextLongerThanItsModelAllows) {
  const std::string text(3000, 'z');
  const auto e = edge();
  EXPECT_THAT(post(*e, request(text, "Where?"), 400)["error"]["message"].get<std::string>(), HasSubstr("2048"));
}

TEST_F(EdgeServiceTest, RefusesAPromptThatLeavesNoRoomForAnAnswer) {
  const auto e = edge();
  EXPECT_THAT(post(*e, request("short", std::string(2500, 'z')), 400)["error"]["message"].get<std::string>(),
              HasSubstr("context length"));
}

TEST_F(EdgeServiceTest, NamesTheFieldInWhichTheCloudsModelDiffers) {
  const std::string text = long_text();
  start_cloud(load_random(folder_ / "other.gguf", 2));
  put(text);
  const auto e = edge();
  const json answer = ask(*e, text);
  EXPECT_EQ(sources(answer), all("native compute"));
  EXPECT_THAT(answer["x_celslm"]["note"].get<std::string>(), HasSubstr("weights"));
  EXPECT_EQ(said(answer), said(local_answer(text)));
}

TEST_F(EdgeServiceTest, NamesATokenizerThatDiffers) {
  const std::string text = long_text();
  start_cloud(load_random(folder_ / "other.gguf", 1, 100));
  put(text);
  const auto e = edge();
  EXPECT_THAT(ask(*e, text)["x_celslm"]["note"].get<std::string>(), HasSubstr("tokenizer"));
}

TEST_F(EdgeServiceTest, RefusesAnotherKeyThanTheOneItTrusted) {
  const std::string text = long_text();
  put(text);
  fetch_and_keep(text, "kept");
  std::filesystem::remove_all(folder_ / "kept" / "packs");
  start_cloud(model_);  // another data folder: another key
  put(text);
  const auto e = edge({}, {}, "kept");
  const json answer = ask(*e, text);
  EXPECT_EQ(sources(answer), all("native compute"));
  EXPECT_THAT(answer["x_celslm"]["note"].get<std::string>(), HasSubstr("key"));
}

TEST_F(EdgeServiceTest, GivesEachOfManyUsersItsOwnAnswer) {
  const std::string text = long_text();
  put(text);
  const auto e = edge();
  std::vector<std::string> alone;
  for (int user = 0; user < 12; ++user) alone.push_back(said(ask(*e, text, fmt::format("I am user {}.", user))));
  EXPECT_EQ(std::set(alone.begin(), alone.end()).size(), alone.size()) << "or a mix-up would not be seen";
  std::vector<std::string> together(alone.size());
  {
    std::vector<std::jthread> users;
    for (std::size_t user = 0; user < together.size(); ++user) {
      users.emplace_back([&, user] { together[user] = said(ask(*e, text, fmt::format("I am user {}.", user))); });
    }
  }
  EXPECT_EQ(together, alone);
}

TEST_F(EdgeServiceTest, ServesSeveralContextsAtOnce) {
  std::vector<std::string> texts{long_text('a'), long_text('b'), long_text('c')};
  std::vector<std::string> expected;
  for (const std::string& text : texts) {
    put(text);
    expected.push_back(said(local_answer(text)));
  }
  EXPECT_EQ(std::set(expected.begin(), expected.end()).size(), expected.size()) << "or a mix-up would not be seen";
  const auto e = edge();
  std::vector<std::string> got(texts.size());
  {
    std::vector<std::jthread> users;
    for (std::size_t i = 0; i < texts.size(); ++i) users.emplace_back([&, i] { got[i] = said(ask(*e, texts[i])); });
  }
  EXPECT_EQ(got, expected);
}

TEST_F(EdgeServiceTest, StreamsTheSameTextAsItAnswersWhole) {
  const auto e = edge();
  json body = request("Be brief.", "Where?");
  body.erase("logprobs");
  const std::string whole = post(*e, body)["choices"][0]["message"]["content"];
  EXPECT_FALSE(whole.empty());
  body["stream"] = true;
  const HttpResponse response = e->chat_completions({.body = body.dump()});
  ASSERT_TRUE(response.stream);
  std::string text;
  int pieces = 0;
  std::string last;
  EXPECT_TRUE(response.stream([&](std::string_view event) {
    last = event;
    const std::string_view data = event.substr(6);
    if (data.starts_with("[DONE]")) return true;
    const json chunk = json::parse(data);
    if (chunk["choices"][0]["delta"].contains("content") && chunk["choices"][0]["delta"]["content"].is_string()) {
      text += chunk["choices"][0]["delta"]["content"].get<std::string>();
      ++pieces;
    }
    return true;
  }));
  EXPECT_EQ(text, whole);
  EXPECT_GT(pieces, 2);
  EXPECT_EQ(last, "data: [DONE]\n\n");
}

TEST_F(EdgeServiceTest, FreesThePlaceOfAClientThatGoesAway) {
  const auto e = edge({}, {.batch = {.max_running = 1}});
  json body = request("Be long.", "Go on.");
  body["stream"] = true;
  body["max_tokens"] = 1500;
  const HttpResponse gone = e->chat_completions({.body = body.dump()});
  int events = 0;
  EXPECT_FALSE(gone.stream([&](std::string_view) { return ++events < 3; }));
  ask(*e, "Be brief.");  // would wait for the first to end
  EXPECT_THAT(e->metrics().body, HasSubstr(R"(celslm_edge_requests_total{how="cancelled"} 1)"));
}

TEST_F(EdgeServiceTest, SaysWhenToComeBackWhenItIsFull) {
  const auto e = edge({}, {.batch = {.max_running = 1, .max_queued = 1}});
  json body = request("Be long.", "Go on.");
  body["stream"] = true;
  body["max_tokens"] = 1800;
  std::vector<HttpResponse> accepted;
  HttpResponse refused;
  for (int i = 0; i < 4 && refused.status != 429; ++i) {
    HttpResponse response = e->chat_completions({.body = body.dump()});
    (response.status == 429 ? refused : accepted.emplace_back()) = std::move(response);
  }
  EXPECT_EQ(refused.status, 429);
  EXPECT_FALSE(refused.headers["Retry-After"].empty());
  for (const HttpResponse& response : accepted) response.stream([](std::string_view) { return false; });
}

TEST_F(EdgeServiceTest, TakesABurstThatFillsItsPlacesAndItsQueue) {
  const auto e = edge({}, {.batch = {.max_running = 3, .max_queued = 1}});
  json body = request("Be long.", "Go on.");
  body["stream"] = true;
  body["max_tokens"] = 1800;
  std::vector<HttpResponse> responses;
  std::vector<int> statuses;
  for (int i = 0; i < 5; ++i) statuses.push_back(responses.emplace_back(e->chat_completions({.body = body.dump()})).status);
  EXPECT_THAT(statuses, testing::ElementsAre(200, 200, 200, 200, 429));
  responses.pop_back();
  for (const HttpResponse& response : responses) response.stream([](std::string_view) { return false; });
}

TEST_F(EdgeServiceTest, DrawsAnewForEachRequestUnlessASeedIsGiven) {
  const auto e = edge();
  json body = request("Be bold.", "Go on.");
  body["temperature"] = 2;
  EXPECT_NE(said(post(*e, body)), said(post(*e, body)));
  body["seed"] = 7;
  EXPECT_EQ(said(post(*e, body)), said(post(*e, body)));
}

TEST_F(EdgeServiceTest, AnswersABadRequestByWhatIsWrong) {
  const auto e = edge();
  EXPECT_EQ(e->chat_completions({.body = "{"}).status, 400);
  EXPECT_EQ(e->chat_completions({.body = "[]"}).status, 400);
  EXPECT_THAT(e->chat_completions({.body = R"({"messages": 7})"}).body, HasSubstr("messages"));
  json body = request("x", "y");
  body["model"] = "gpt-oss";
  EXPECT_EQ(post(*e, body, 404)["error"]["code"], "model_not_found");
}

// The request waits for its context until the edge refuses others: it is under way when the edge begins to drain.
TEST_F(EdgeServiceTest, FinishesRequestsUnderWayWhenItDrains) {
  const auto e = edge();
  json body = request("Be brief.", "Where?");
  body["stream"] = true;
  body["max_tokens"] = 500;
  const HttpResponse response = e->chat_completions({.body = body.dump()});
  e->drain(60s);
  std::string events;
  EXPECT_TRUE(response.stream([&](std::string_view event) {
    events += event;
    return true;
  }));
  EXPECT_THAT(events, HasSubstr(R"("finish_reason":"length")"));
  EXPECT_EQ(e->chat_completions({.body = request("x", "y").dump()}).status, 503);
}

// --- every way a cloud can fail ---------------------------------------------------------------------------------------

struct FaultCase {
  const char* name;
  std::function<PackFault()> make;  // one for each test
  bool while_computing = false;     // strikes only while the cloud computes the pack
};

void flip_a_bit(Bytes& blocks) {
  blocks[blocks.size() / 2] ^= std::byte{1};
}

class CloudFaultTest : public EdgeServiceTest, public testing::WithParamInterface<FaultCase> {};

TEST_P(CloudFaultTest, CostsTimeButNeitherTheAnswerNorATokenOfIt) {
  const std::string text = long_text();
  put(text);
  const PackFault fault = GetParam().make();
  const auto e = edge(fault);
  const json answer = ask(*e, text);
  EXPECT_GT(fault.struck(), 0);
  EXPECT_EQ(said(answer), said(local_answer(text)));
  EXPECT_EQ(sources(answer).back(), "native compute");
  EXPECT_FALSE(answer["x_celslm"]["note"].get<std::string>().empty());
}

// The first blocks then come with the header.
TEST_P(CloudFaultTest, CostsNoMoreWhereTheCloudHasTheWholePack) {
  if (GetParam().while_computing) GTEST_SKIP() << "has nothing to strike";
  const std::string text = long_text();
  put(text);
  fetch_and_keep(text, "other");
  const PackFault fault = GetParam().make();
  const auto e = edge(fault);
  const json answer = ask(*e, text);
  EXPECT_GT(fault.struck(), 0);
  EXPECT_EQ(said(answer), said(local_answer(text)));
}

INSTANTIATE_TEST_SUITE_P(
    All, CloudFaultTest,
    testing::Values(FaultCase{"Answers404", [] { return answering(404, R"({"error":{"message":"gone"}})"); }},
                    FaultCase{"Answers500", [] { return answering(500, "oops"); }},
                    FaultCase{"AnswersGarbageAsHeader", [] { return answering(200, std::string(5000, '\xff'), "/header"); }},
                    FaultCase{"AnswersAnEmptyHeader", [] { return answering(200, "", "/header"); }},
                    FaultCase{"AnswersGarbageAsPreamble", [] { return answering(202, std::string(300, 'x'), "/header"); }},
                    FaultCase{"AnswersGarbageAsEntries", [] { return answering(200, std::string(5000, 'x'), "/entries"); },
                              true},
                    FaultCase{"TimesOut", [] { return failing("timed out after 3000 ms"); }},
                    FaultCase{"LeavesNoMemory", [] { return running_out_of_memory(); }},
                    FaultCase{"LeavesNoMemoryForBlocks", [] { return running_out_of_memory("/blocks"); }},
                    FaultCase{"DiesBeforeTheFirstBlock", [] { return dying_after(0); }},
                    FaultCase{"DiesHalfway", [] { return dying_after(3); }},
                    FaultCase{"FlipsABitOfABlock", [] { return changing_blocks(flip_a_bit); }},
                    FaultCase{"CutsABlockShort", [] { return changing_blocks([](Bytes& b) { b.resize(b.size() / 2); }); }},
                    FaultCase{"SendsTooMuch", [] { return changing_blocks([](Bytes& b) { b.resize(b.size() * 2); }); }},
                    FaultCase{"SendsNothing", [] { return changing_blocks([](Bytes& b) { b.clear(); }); }}),
    [](const auto& case_info) { return std::string(case_info.param.name); });

TEST_F(EdgeServiceTest, KeepsTheLayersThatArrivedBeforeTheCloudDied) {
  const std::string text = long_text();
  put(text);
  fetch_and_keep(text, "other");
  const auto e = edge(dying_after(2), {.load = {.n_connections = 1}});
  const json answer = ask(*e, text);
  EXPECT_EQ(sources(answer).front(), "proxy cloud");
  EXPECT_EQ(sources(answer).back(), "native compute");
  EXPECT_EQ(said(answer), said(local_answer(text)));
}

// As a process leaves it that is killed before its last block: the header is not there yet.
TEST_F(EdgeServiceTest, GoesOnFromWhatAnUnfinishedLoadLeftOnDisk) {
  const std::string text = long_text();
  put(text);
  fetch_and_keep(text, "left");
  const auto pack = store_->list().front();
  {
    std::fstream file(pack.path, std::ios::in | std::ios::out | std::ios::binary);
    file.write(std::string(64, '\0').data(), 64);
    file.seekp(-1, std::ios::end);
    file.put('!');  // and one block that is not what it should be
  }
  std::filesystem::rename(pack.path, pack.path.string() + ".77.0.tmp");
  const json answer = ask(*edge({}, {}, "left"), text);
  const auto layers = answer["x_celslm"]["layers"];
  EXPECT_EQ(layers[0]["source"], "disk");
  EXPECT_EQ(layers[kLayers - 1]["blocks"]["cloud"], 1);
  EXPECT_LT(answer["x_celslm"]["bytes"], pack.bytes / 4);
  EXPECT_EQ(said(answer), said(local_answer(text)));
}

TEST_F(EdgeServiceTest, SaysTheSameWhereverItsLayersMeet) {
  const std::string text = long_text();
  put(text);
  const std::string expected = said(local_answer(text));
  prefer_ = Prefer::kBytes;
  for (int layers = 1; layers < kLayers; ++layers) {
    const auto e = edge({}, {.load = {.policy = {.max_compute_percent = layers * 100 / kLayers}}});
    const json answer = ask(*e, text);
    EXPECT_EQ(std::ranges::count(sources(answer), "native compute"), layers);
    EXPECT_EQ(sources(answer).back(), "proxy cloud");
    EXPECT_EQ(said(answer), expected);
  }
}

TEST_F(EdgeServiceTest, AsksNoNetworkWhenItPrefersFewBytes) {
  const std::string text = long_text();
  put(text);
  prefer_ = Prefer::kBytes;
  const auto e = edge();
  const json answer = ask(*e, text);
  EXPECT_EQ(sources(answer), all("native compute"));
  EXPECT_EQ(answer["x_celslm"]["bytes"], 0);
}

// Time stands still: nothing but the deadline can end the wait.
TEST_F(EdgeServiceTest, ComputesWhatADeadlineCutsOff) {
  const std::string text = long_text();
  put(text);
  json body = request(text, "Where?");
  body["x_celslm"] = {{"deadline_ms", 0}};
  const auto e = edge(only_packs(
      [](const HttpCall& call, const auto&) -> Result<HttpAnswer> {
        testing_support::wait_for_stop(call.stop);
        return fail(ErrorKind::kCancelled, "nobody waited any longer");
      },
      "/blocks"));
  const json answer = post(*e, body);
  EXPECT_EQ(sources(answer), all("native compute"));
  EXPECT_FALSE(answer["x_celslm"].contains("note")) << "nobody failed";
  EXPECT_EQ(said(answer), said(local_answer(text)));
}

TEST_F(EdgeServiceTest, KeepsWhatItComputedWhereThatIsWhatTheCloudSigned) {
  const std::string text = long_text();
  put(text);
  fetch_and_keep(text, "other");
  prefer_ = Prefer::kBytes;
  {
    const auto e = edge({}, {}, "kept");
    ask(*e, text);
    e->wait_until_loaded();
    EXPECT_FALSE(store_->list().empty());
  }
  prefer_ = Prefer::kEnergy;
  EXPECT_EQ(sources(ask(*edge({}, {}, "kept"), text)), all("proxy disk"));
}

// Every entry has come, but the cloud has not written its header yet: it promises one at the end of the entries' stream.
TEST_F(EdgeServiceTest, KeepsAPackWhoseHeaderIsFinishedAfterItsLastEntry) {
  const std::string text = long_text();
  put(text);
  auto preamble = std::make_shared<std::optional<HttpAnswer>>();
  auto finished = std::make_shared<std::atomic<bool>>(false);
  const auto e = edge(only_packs(
      [=](const HttpCall& call, const auto& go_on) -> Result<HttpAnswer> {
        if (call.path.contains("/entries?from=") && !call.path.ends_with("=0")) *finished = true;
        if (!call.path.contains("/header") || *finished) return go_on();
        if (*preamble) return **preamble;
        auto answer = go_on();
        if (answer) *preamble = *answer;
        return answer;
      },
      ""));
  EXPECT_EQ(sources(ask(*e, text)), all("proxy cloud"));
  e->wait_until_loaded();
  EXPECT_FALSE(store_->list().empty());
  EXPECT_TRUE(*finished);
}

TEST_F(EdgeServiceTest, ReadsPacksFromANeighbour) {
  const std::string text = long_text();
  put(text);
  const Neighbour neighbour(*this, text);
  const auto e = edge(failing("dead"));
  const json answer = ask(*e, text);
  EXPECT_EQ(sources(answer), all("proxy peer"));
  EXPECT_EQ(said(answer), said(local_answer(text)));
}

TEST_F(EdgeServiceTest, DoesNotBelieveANeighbourThatLies) {
  const std::string text = long_text();
  put(text);
  const Neighbour neighbour(*this, text);
  const PackFault lie = changing_blocks(flip_a_bit);
  neighbour_fault_ = lie;
  const auto e = edge(failing("dead"));  // so that there is nobody else to read from
  const json answer = ask(*e, text);
  EXPECT_GT(lie.struck(), 0);
  EXPECT_EQ(sources(answer).back(), "native compute");
  EXPECT_THAT(answer["x_celslm"]["note"].get<std::string>(), HasSubstr("block"));
  EXPECT_EQ(said(answer), said(local_answer(text)));
}

TEST_F(EdgeServiceTest, ANeighbourThatHasNothingComputesNothingForOthers) {
  const std::string text = long_text();
  put(text);
  const auto neighbour = edge({}, {}, "neighbour");
  LocalServer server;
  neighbour->add_routes(server);
  const auto header = [&] {
    const std::string path = pack_path(context_handle(text), model_->fingerprint().id(), "f16", "header");
    return server.handle({.method = "GET", .path = path}).status;
  };
  EXPECT_EQ(header(), 404);
  EXPECT_THAT(neighbour->metrics().body, HasSubstr("celslm_edge_resident_contexts 0\n"));
  ask(*neighbour, text);
  neighbour->wait_until_loaded();
  EXPECT_EQ(header(), 200) << "once it has the pack for its own users, it serves it";
}

TEST_F(EdgeServiceTest, ReadsItsFirstBlocksWithTheHeader) {
  const std::string text = long_text();
  put(text);
  fetch_and_keep(text, "other");
  auto opening = std::make_shared<std::atomic<std::size_t>>(0);
  const auto e = edge(only_packs(
      [=](const HttpCall& call, const auto& go_on) -> Result<HttpAnswer> {
        if (call.path.ends_with("/blocks")) return fail(ErrorKind::kUnavailable, "only headers today");
        auto answer = go_on();
        if (answer) *opening += answer->body.size();
        return answer;
      },
      ""));
  const json answer = ask(*e, text);
  const auto bytes = answer["x_celslm"]["bytes"].get<std::size_t>();
  EXPECT_GT(bytes, 0U);
  EXPECT_GT(*opening, bytes);
  EXPECT_EQ(said(answer), said(local_answer(text)));
}

TEST_F(EdgeServiceTest, RecoversFromASingleBrokenConnection) {
  const std::string text = long_text();
  put(text);
  auto first = std::make_shared<std::atomic<bool>>(true);
  const auto e = edge(only_packs(
      [=](const HttpCall&, const auto& go_on) -> Result<HttpAnswer> {
        if (first->exchange(false)) return fail(ErrorKind::kUnavailable, "connection reset");
        return go_on();
      },
      "/blocks"));
  EXPECT_EQ(sources(ask(*e, text)), all("proxy cloud"));
  EXPECT_FALSE(*first);
}

TEST_F(EdgeServiceTest, LeavesADeadCloudAloneForAWhile) {
  for (const char salt : {'a', 'b', 'c'}) put(long_text(salt));
  const PackFault dead = failing("timed out");
  const auto e = edge(dead);
  ask(*e, long_text('a'));
  const int after_first = dead.struck();
  EXPECT_GT(after_first, 0);
  ask(*e, long_text('b'));
  EXPECT_EQ(dead.struck(), after_first);
  clock_.advance(kSourceBackoff);
  ask(*e, long_text('c'));
  EXPECT_GT(dead.struck(), after_first) << "and then asks it again";
}

}  // namespace
}  // namespace celslm
