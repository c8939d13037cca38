// Fields of the OpenAI API, from a request's JSON to an answer's, on a small random model.
#include "serve/batch/prefix_cache.h"
#include "serve/edge/edge_test_support.h"
#include "tests/support/eventually.h"

namespace celslm {
namespace {

using namespace testing_support;
using testing::HasSubstr;

class FieldsTest : public EdgeFixture {
 protected:
  static json complete(EdgeService& edge, const json& body, int status = 200) {
    const HttpResponse response = edge.completions({.body = body.dump()});
    EXPECT_EQ(response.status, status) << response.body;
    return json::parse(response.body);
  }
  static std::vector<json> events(const HttpResponse& response) {
    std::vector<json> out;
    EXPECT_TRUE(response.stream([&](std::string_view event) {
      if (event.starts_with("data: {")) out.push_back(json::parse(event.substr(6)));
      return true;
    }));
    return out;
  }
  // Tokens of prompts.
  static int computed(EdgeService& edge) {
    const std::string body = edge.metrics().body;
    constexpr std::string_view kName = "\ncelslm_edge_prompt_tokens_total ";
    return std::stoi(body.substr(body.find(kName) + kName.size()));
  }
  // The loop counts after it has answered.
  static bool eventually(EdgeService& edge, const std::string& line) {
    return testing_support::eventually([&] { return edge.metrics().body.contains(line); });
  }
  const std::unique_ptr<EdgeService> edge_ = edge();
};

TEST_F(FieldsTest, SeveralTextsGoOnFromOnePrompt) {
  const json body{{"prompt", long_text()}, {"n", 3}, {"max_tokens", 4}, {"temperature", 1}, {"seed", 7}};
  const json answer = complete(*edge_, body);
  ASSERT_EQ(answer["choices"].size(), 3U);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(answer["choices"][i]["index"], i);
  EXPECT_NE(answer["choices"][0]["text"], answer["choices"][1]["text"]) << "each draws for itself";
  const int n_prompt = answer["usage"]["prompt_tokens"];
  EXPECT_LE(answer["usage"]["completion_tokens"], 12);
  EXPECT_EQ(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 0) << "of this request's own texts nothing is cached";
  EXPECT_LE(computed(*edge_), n_prompt + 2 * kMinPrefix) << "the other two copy all but a few";
}

TEST_F(FieldsTest, EvenWithoutReuseAnAnswersTextsShareTheirPrompt) {
  EdgeOptions options;
  options.batch.reuse_prefixes = false;
  const auto e = edge({}, options);
  const json body{{"prompt", long_text()}, {"n", 2}, {"max_tokens", 3}};
  const json answer = complete(*e, body);
  EXPECT_EQ(answer["choices"][0]["text"], answer["choices"][1]["text"]) << "greedy";
  const int n_prompt = answer["usage"]["prompt_tokens"];
  EXPECT_LE(computed(*e), n_prompt + kMinPrefix);
}

TEST_F(FieldsTest, SeveralPromptsAreAnsweredAsEachAlone) {
  json body{{"prompt", {"one two", "three"}}, {"max_tokens", 5}, {"logprobs", 1}};
  const json both = complete(*edge_, body);
  ASSERT_EQ(both["choices"].size(), 2U);
  int n_prompt = 0;
  for (int i = 0; i < 2; ++i) {
    json alone = body;
    alone["prompt"] = body["prompt"][i];
    const json answer = complete(*edge_, alone);
    EXPECT_EQ(answer["choices"][0]["text"], both["choices"][i]["text"]);
    n_prompt += answer["usage"]["prompt_tokens"].get<int>();
  }
  EXPECT_EQ(both["usage"]["prompt_tokens"], n_prompt);
}

TEST_F(FieldsTest, StreamsSeveralTextsByIndex) {
  json body{{"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"n", 2}, {"max_tokens", 4}, {"stream", true}};
  body["stream_options"] = {{"include_usage", true}};
  const std::vector<json> all = events(edge_->chat_completions({.body = body.dump()}));
  body["stream"] = false;
  const json complete = post(*edge_, body);
  std::vector<std::string> texts(2);
  int finished = 0;
  int extensions = 0;
  for (const json& event : all) {
    extensions += event.contains("x_celslm") ? 1 : 0;
    for (const json& choice : event["choices"]) {
      finished += choice["finish_reason"].is_null() ? 0 : 1;
      if (choice["delta"].contains("content"))
        texts[choice["index"].get<std::size_t>()] += choice["delta"]["content"].get<std::string>();
    }
  }
  EXPECT_EQ(finished, 2);
  EXPECT_EQ(extensions, 1);
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(json(texts[static_cast<std::size_t>(i)]), complete["choices"][i]["message"]["content"]);
  EXPECT_EQ(all.back()["usage"], complete["usage"]);
}

TEST_F(FieldsTest, EchoGivesThePromptsProbabilities) {
  json body{{"prompt", {72, 105, 33, 40, 41}}, {"max_tokens", 6}, {"logprobs", 2}};
  const json generated = complete(*edge_, body)["choices"][0]["logprobs"];
  body["echo"] = true;
  const json choice = complete(*edge_, body)["choices"][0];
  const json& logprobs = choice["logprobs"];
  ASSERT_EQ(logprobs["tokens"].size(), 5 + generated["tokens"].size());
  EXPECT_TRUE(logprobs["token_logprobs"][0].is_null() && logprobs["top_logprobs"][0].is_null());
  for (std::size_t i = 1; i < 5; ++i) {
    EXPECT_LE(logprobs["token_logprobs"][i].get<double>(), 0.0);
    EXPECT_GE(logprobs["top_logprobs"][i].size(), 2U);
  }
  for (std::size_t i = 0; i < generated["tokens"].size(); ++i) {
    EXPECT_EQ(logprobs["tokens"][5 + i], generated["tokens"][i]);
    EXPECT_NEAR(logprobs["token_logprobs"][5 + i].get<double>(), generated["token_logprobs"][i].get<double>(), 1e-3);
  }
}

TEST_F(FieldsTest, APromptsProbabilitiesAreThoseOfGeneratingIt) {
  std::vector<int> prompt{72, 105, 33};
  const std::string first = complete(*edge_, {{"prompt", prompt}, {"max_tokens", 0}, {"echo", true}})["choices"][0]["text"];
  json forced{{"prompt", prompt}, {"max_tokens", 1}, {"logprobs", 0}, {"logit_bias", {{"65", 100}}}};
  const json next = complete(*edge_, forced)["choices"][0];
  prompt.push_back(65);
  const json read = complete(*edge_, {{"prompt", prompt}, {"max_tokens", 0}, {"echo", true}, {"logprobs", 0}})["choices"][0];
  EXPECT_EQ(read["finish_reason"], "length");
  EXPECT_EQ(read["logprobs"]["token_logprobs"].size(), 4U);
  EXPECT_NEAR(read["logprobs"]["token_logprobs"][3].get<double>(), next["logprobs"]["token_logprobs"][0].get<double>(),
              1e-3);
  EXPECT_TRUE(read["text"].get<std::string>().starts_with(first));
}

TEST_F(FieldsTest, NoTokensAreAnAnswerToo) {
  const json answer = complete(*edge_, {{"prompt", "hello"}, {"max_tokens", 0}});
  EXPECT_EQ(answer["choices"][0]["text"], "");
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(answer["usage"]["completion_tokens"], 0);
}

TEST_F(FieldsTest, BiasedTokensComeAndForbiddenOnesDoNot) {
  const json want{{"prompt", "x"}, {"max_tokens", 3}, {"logprobs", 0}, {"logit_bias", {{"65", 100}}}};
  const json tokens = complete(*edge_, want)["choices"][0]["logprobs"]["tokens"];
  ASSERT_EQ(tokens.size(), 3U);
  EXPECT_EQ(tokens[0], tokens[1]);
  const json answer = complete(*edge_, {{"prompt", "x"}, {"logit_bias", {{"99999999", 1}}}}, 400);
  EXPECT_THAT(answer["error"]["message"].get<std::string>(), HasSubstr("'logit_bias' has the token id 99999999"));
}

TEST_F(FieldsTest, TooLongAPromptHasACodeOfItsOwn) {
  const json body{{"prompt", std::vector<int>(3000, 65)}};
  EXPECT_EQ(complete(*edge_, body, 400)["error"]["code"], "context_length_exceeded");
  const HttpResponse embedded = edge_->embeddings({.body = json{{"input", std::vector<int>(3000, 65)}}.dump()});
  EXPECT_EQ(json::parse(embedded.body)["error"]["code"], "context_length_exceeded");
}

TEST_F(FieldsTest, TokensBehindAStopStringAreCutAsTheTextIs) {
  json body{{"prompt", "x"}, {"max_tokens", 8}, {"logprobs", 0}, {"logit_bias", {{"65", 100}}}};
  const json all = complete(*edge_, body)["choices"][0];
  const std::string text = all["text"];
  ASSERT_EQ(all["logprobs"]["tokens"].size(), 8U);
  body["stop"] = text.substr(0, text.size() / 2);
  const json cut = complete(*edge_, body)["choices"][0];
  EXPECT_EQ(cut["finish_reason"], "stop");
  EXPECT_EQ(cut["text"], "");
  EXPECT_EQ(cut["logprobs"]["tokens"], json::array());
  body["stop"] = text + "!";  // held back until the end, and then given
  const json held = complete(*edge_, body)["choices"][0];
  EXPECT_EQ(held["logprobs"], all["logprobs"]);
  body["stream"] = true;
  std::size_t n_tokens = 0;
  for (const json& event : events(edge_->completions({.body = body.dump()}))) {
    const json& logprobs = event["choices"][0]["logprobs"];
    n_tokens += logprobs.is_null() ? 0 : logprobs["tokens"].size();
  }
  EXPECT_EQ(n_tokens, 8U);
}

TEST_F(FieldsTest, ContinuesAnAnswerThatWasBegun) {
  json body{{"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"max_tokens", 3}};
  const int asked = post(*edge_, body)["usage"]["prompt_tokens"];
  body["messages"].push_back({{"role", "assistant"}, {"content", "Once upon"}});
  body["continue_final_message"] = true;
  const json answer = post(*edge_, body);
  const auto beginning = static_cast<int>(model_->text().tokenize("Once upon", false, false).size());
  EXPECT_EQ(answer["usage"]["prompt_tokens"], asked + beginning);
}

TEST_F(FieldsTest, DescribesItsModelByName) {
  LocalServer server;
  edge_->add_routes(server);
  const json listed = json::parse(server.handle({.method = "GET", .path = "/v1/models"}).body)["data"][0];
  const std::string id = listed["id"];
  EXPECT_EQ(json::parse(server.handle({.method = "GET", .path = "/v1/models/" + id}).body), listed);
  const HttpResponse other = server.handle({.method = "GET", .path = "/v1/models/owner/other"});
  EXPECT_EQ(other.status, 404);
  EXPECT_EQ(json::parse(other.body)["error"]["code"], "model_not_found");
}

// --- embeddings --------------------------------------------------------------------------------------------------------

TEST_F(FieldsTest, EmbeddingsHaveLengthOneAndDoNotDependOnTheirNeighbours) {
  const auto embed = [&](const json& input, const json& format) {
    const HttpResponse response = edge_->embeddings({.body = json{{"input", input}, {"encoding_format", format}}.dump()});
    EXPECT_EQ(response.status, 200) << response.body;
    return json::parse(response.body);
  };
  const json both = embed({"a harbour", long_text()}, "float");
  ASSERT_EQ(both["data"].size(), 2U);
  EXPECT_EQ(both["data"][1]["index"], 1);
  const std::vector<double> values = both["data"][0]["embedding"];
  double squares = 0;
  for (const double v : values) squares += v * v;
  EXPECT_NEAR(squares, 1.0, 1e-5);
  const std::vector<double> alone = embed("a harbour", "float")["data"][0]["embedding"];
  ASSERT_EQ(alone.size(), values.size());
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(alone[i], values[i], 1e-5);
  EXPECT_NE(both["data"][0]["embedding"], both["data"][1]["embedding"]);
  EXPECT_EQ(embed("a harbour", "base64")["data"][0]["embedding"].get<std::string>().size(), (values.size() * 4 + 2) / 3 * 4);
}

// --- clients that leave ------------------------------------------------------------------------------------------------

struct Client {
  const char* name;
  bool disconnected;  // at least half closed
  bool unreachable;
  bool gets_an_answer;
  bool gets_a_stream;
};

void PrintTo(const Client& client, std::ostream* out) {
  *out << client.name;
}

class ClientTest : public FieldsTest, public testing::WithParamInterface<Client> {
 protected:
  HttpRequest request(bool stream) const {
    const json body{{"prompt", "hello"}, {"max_tokens", 20}, {"stream", stream}};
    return {.body = body.dump(),
            .disconnected = [] { return GetParam().disconnected; },
            .unreachable = [] { return GetParam().unreachable; }};
  }
};

TEST_P(ClientTest, ThatLeavesACompleteAnswerCancelsIt) {
  EXPECT_EQ(edge_->completions(request(false)).status, GetParam().gets_an_answer ? 200 : 499);
}

TEST_P(ClientTest, ThatLeavesAStreamCancelsIt) {
  const HttpResponse response = edge_->completions(request(true));
  std::string text;
  response.stream([&](std::string_view event) {
    text += event;
    return true;
  });
  EXPECT_EQ(text.contains("[DONE]"), GetParam().gets_a_stream);
  const std::string how = GetParam().gets_a_stream ? "finished" : "cancelled";
  EXPECT_TRUE(eventually(*edge_, fmt::format("celslm_edge_requests_total{{how=\"{}\"}} 1\n", how)));
}

INSTANTIATE_TEST_SUITE_P(Edge, ClientTest,
                         testing::Values(Client{"Stays", false, false, true, true},
                                         // A complete answer cannot tell it from a close: nothing is written before its end.
                                         Client{"HalfCloses", true, false, false, true},
                                         Client{"Resets", true, true, false, false}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST_F(FieldsTest, StreamsAreNotBufferedByProxies) {
  const json body{{"prompt", "hello"}, {"max_tokens", 1}, {"stream", true}};
  const HttpResponse response = edge_->completions({.body = body.dump()});
  EXPECT_EQ(response.headers.at("X-Accel-Buffering"), "no");
  response.stream([](std::string_view) { return true; });
}

TEST_F(FieldsTest, ContextsGivenAtTheStartMustBeTexts) {
  for (const std::string& text :
       {std::string(), std::string(" \n"), std::string("a\0b", 3), std::string("\xFF\xFE"), std::string(20'000, 'x')}) {
    EdgeParts parts{
        .model = model_, .engine = *Engine::create(model_, {.n_threads = 1}), .clock = &clock_, .log = null_log()};
    const auto refused = EdgeService::create(std::move(parts), {.contexts = {text}});
    ASSERT_FALSE(refused) << text.substr(0, 20);
    EXPECT_THAT(refused.error().message, HasSubstr("text 1 of 1 given as context: it "));
  }
}

}  // namespace
}  // namespace celslm
