#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "core/utf8.h"
#include "serve/openai/openai.h"

namespace celslm {
namespace {

using nlohmann::json;

const json kExtension = {{"context", nullptr}, {"bytes", 0}};
const std::vector<TokenText> kTokens = {
    {.bytes = "Hé", .logprob = -0.5F, .top = {{"Hé", -0.5F}, {"Ho", -1.0F}}},
    {.bytes = "\xF0\x9F", .logprob = -0.25F, .top = {{"\xF0\x9F", -0.25F}, {"!", -2.0F}}}};

CompletionRequest chat() {
  return {.model = "m", .messages = {{.role = "user", .content = "hi"}}};
}
CompletionRequest completion() {
  return {.chat = false, .model = "m", .prompt = "né"};
}
AnswerMessage text(std::string content) {
  return {.content = std::move(content), .reasoning = {}, .tool_calls = {}};
}
AnswerDelta piece(std::string content) {
  return {.content = std::move(content), .reasoning = {}, .calls = {}};
}

CompletionWriter writer(const CompletionRequest& request) {
  return {request, "small", "42", 1'700'000'000};
}

// The object of a "data: …\n\n" event.
json data_of(const std::string& event) {
  EXPECT_TRUE(event.starts_with("data: ") && event.ends_with("\n\n")) << event;
  EXPECT_EQ(event.find('\n'), event.size() - 2) << event;
  return json::parse(event.substr(6));
}

TEST(ResponseTest, ChatHasTheShapeOfTheApi) {
  const json out = writer(chat()).response(text("Hi"), {}, FinishReason::kStop,
                                           {.prompt_tokens = 10, .cached_tokens = 8, .completion_tokens = 2}, kExtension);
  EXPECT_EQ(out, json::parse(R"({
    "id": "chatcmpl-42", "object": "chat.completion", "created": 1700000000, "model": "small",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi", "refusal": null}, "logprobs": null,
                 "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 8}},
    "x_celslm": {"context": null, "bytes": 0}})"));
}

TEST(ResponseTest, CompletionHasTheShapeOfTheApi) {
  const json out =
      writer(completion())
          .response(text("Hi"), {}, FinishReason::kLength, {.prompt_tokens = 1, .completion_tokens = 2}, kExtension);
  EXPECT_EQ(out, json::parse(R"({
    "id": "cmpl-42", "object": "text_completion", "created": 1700000000, "model": "small",
    "choices": [{"index": 0, "text": "Hi", "logprobs": null, "finish_reason": "length"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "prompt_tokens_details": {"cached_tokens": 0}},
    "x_celslm": {"context": null, "bytes": 0}})"));
}

TEST(ResponseTest, AnAnswerCutOffIsNotTakenForAWholeOne) {
  const json out = writer(chat()).response(text("Hi"), {}, FinishReason::kCancelled, {}, kExtension);
  EXPECT_EQ(out["choices"][0]["finish_reason"], "length");
}

TEST(ResponseTest, ChatLogprobsListEachTokenWithItsBytes) {
  CompletionRequest request = chat();
  request.logprobs = true;
  const json out = writer(request).response(text("x"), kTokens, FinishReason::kStop, {}, kExtension);
  EXPECT_EQ(out["choices"][0]["logprobs"], json::parse(R"({"refusal": null, "content": [
    {"token": "Hé", "logprob": -0.5, "bytes": [72, 195, 169], "top_logprobs": [
      {"token": "Hé", "logprob": -0.5, "bytes": [72, 195, 169]}, {"token": "Ho", "logprob": -1.0, "bytes": [72, 111]}]},
    {"token": "\\xf0\\x9f", "logprob": -0.25, "bytes": [240, 159], "top_logprobs": [
      {"token": "\\xf0\\x9f", "logprob": -0.25, "bytes": [240, 159]}, {"token": "!", "logprob": -2.0, "bytes": [33]}]}]})"));
}

TEST(ResponseTest, CompletionLogprobsAreParallelLists) {
  CompletionRequest request = completion();
  request.logprobs = true;
  const json out = writer(request).response(text("x"), kTokens, FinishReason::kStop, {}, kExtension);
  EXPECT_EQ(out["choices"][0]["logprobs"], json::parse(R"({
    "tokens": ["Hé", "bytes:\\xf0\\x9f"], "token_logprobs": [-0.5, -0.25], "text_offset": [0, 2],
    "top_logprobs": [{"Hé": -0.5, "Ho": -1.0}, {"bytes:\\xf0\\x9f": -0.25, "!": -2.0}]})"));
}

TEST(ResponseTest, TheChosenTokenIsAmongACompletionsTopOnes) {
  CompletionRequest request = completion();
  request.logprobs = true;
  const std::vector<TokenText> tokens = {{.bytes = "c", .logprob = -3.0F, .top = {{"a", -1.0F}}}};
  const json out = writer(request).response(text("c"), tokens, FinishReason::kStop, {}, kExtension);
  EXPECT_EQ(out["choices"][0]["logprobs"]["top_logprobs"], json::parse(R"([{"a": -1.0, "c": -3.0}])"));
}

TEST(ResponseTest, AnEchoedPromptsFirstTokenHasNoProbability) {
  CompletionRequest request = completion();
  request.logprobs = request.echo = true;
  std::vector<TokenText> tokens = {{.bytes = "<s>", .is_first = true, .is_shown = false}, {.bytes = "né", .logprob = -1.0F}};
  tokens.insert(tokens.end(), kTokens.begin(), kTokens.end());
  const json out =
      writer(request).response(text("néHé"), tokens, FinishReason::kStop, {}, kExtension)["choices"][0]["logprobs"];
  EXPECT_EQ(out["text_offset"], json({0, 0, 2, 4}));
  EXPECT_TRUE(out["token_logprobs"][0].is_null() && out["top_logprobs"][0].is_null());
  EXPECT_EQ(out["token_logprobs"][1], -1.0);
}

TEST(ResponseTest, LogprobsThatJsonCannotHoldBecomeTheApisLowestNumber) {
  CompletionRequest request = chat();
  request.logprobs = true;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<TokenText> tokens = {{.bytes = "a", .logprob = -kInfinity, .top = {{"b", std::nanf("")}}}};
  const json item = writer(request).response(text("a"), tokens, FinishReason::kStop, {},
                                             kExtension)["choices"][0]["logprobs"]["content"][0];
  EXPECT_EQ(item["logprob"], -9999.0);
  EXPECT_EQ(item["top_logprobs"][0]["logprob"], -9999.0);
}

TEST(StreamTest, ChatBeginsWithTheRoleAndEndsWithTheReason) {
  CompletionWriter w = writer(chat());
  EXPECT_EQ(data_of(w.first_event()), json::parse(R"({
    "id": "chatcmpl-42", "object": "chat.completion.chunk", "created": 1700000000, "model": "small",
    "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": null, "finish_reason": null}]})"));
  EXPECT_EQ(data_of(w.delta_event(piece("a\nb"), {}))["choices"],
            json::parse(R"([{"index": 0, "delta": {"content": "a\nb"}, "logprobs": null, "finish_reason": null}])"));
  const json last = data_of(w.last_event(FinishReason::kStop, kExtension));
  EXPECT_EQ(last["choices"], json::parse(R"([{"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop"}])"));
  EXPECT_EQ(last["x_celslm"], kExtension);
  EXPECT_EQ(CompletionWriter::done_event(), "data: [DONE]\n\n");
}

TEST(StreamTest, CompletionChunksCarryText) {
  CompletionWriter w = writer(completion());
  EXPECT_EQ(data_of(w.first_event())["choices"][0]["text"], "");
  const json delta = data_of(w.delta_event(piece("ab"), {}));
  EXPECT_EQ(delta["object"], "text_completion");
  EXPECT_EQ(delta["choices"], json::parse(R"([{"index": 0, "text": "ab", "logprobs": null, "finish_reason": null}])"));
  EXPECT_EQ(data_of(w.last_event(FinishReason::kLength, kExtension))["choices"],
            json::parse(R"([{"index": 0, "text": "", "logprobs": null, "finish_reason": "length"}])"));
}

TEST(StreamTest, UsageComesInAnEventOfItsOwnAndIsNullBefore) {
  CompletionRequest request = chat();
  request.stream = request.include_usage = true;
  CompletionWriter w = writer(request);
  for (const std::string& event :
       {w.first_event(), w.delta_event(piece("a"), {}), w.last_event(FinishReason::kStop, kExtension)}) {
    const json data = data_of(event);
    EXPECT_TRUE(data.contains("usage") && data["usage"].is_null()) << event;
  }
  const json usage = data_of(w.usage_event({.prompt_tokens = 3, .cached_tokens = 1, .completion_tokens = 4}));
  EXPECT_EQ(usage["choices"], json::array());
  EXPECT_EQ(usage["usage"]["total_tokens"], 7);
  EXPECT_EQ(usage["usage"]["prompt_tokens_details"]["cached_tokens"], 1);
}

TEST(StreamTest, UsageIsNotMentionedUnlessAskedFor) {
  CompletionWriter w = writer(chat());
  EXPECT_FALSE(data_of(w.delta_event(piece("a"), {})).contains("usage"));
}

TEST(StreamTest, OffsetsRunOnFromEventToEvent) {
  CompletionRequest request = completion();
  request.logprobs = true;
  CompletionWriter w = writer(request);
  EXPECT_EQ(data_of(w.delta_event(piece("Hé"), {kTokens.begin(), 1}))["choices"][0]["logprobs"]["text_offset"], json({0}));
  EXPECT_EQ(data_of(w.delta_event(piece(""), {kTokens.begin() + 1, 1}))["choices"][0]["logprobs"]["text_offset"], json({2}));
  EXPECT_TRUE(data_of(w.delta_event(piece("😀"), {}))["choices"][0]["logprobs"].is_null());
}

TEST(StreamTest, LogprobsAreLeftOutUnlessAskedFor) {
  EXPECT_TRUE(data_of(writer(chat()).delta_event(piece("Hé"), kTokens))["choices"][0]["logprobs"].is_null());
}

TEST(StreamTest, AnErrorIsAnEventThatClientsRaise) {
  const json out = data_of(CompletionWriter::error_event({.kind = ErrorKind::kOverloaded, .message = "later\n\nplease"}));
  EXPECT_EQ(out["error"]["code"], "overloaded");
  EXPECT_EQ(out["error"]["message"], "later\n\nplease");
}

TEST(StreamTest, BytesThatAreNotTextNeverBreakAnEvent) {
  CompletionWriter w = writer(chat());
  EXPECT_TRUE(is_utf8(w.delta_event(piece("\xFF"), {})));
  EXPECT_TRUE(is_utf8(CompletionWriter::error_event({.kind = ErrorKind::kInternal, .message = "\xFF"})));
}

TEST(ResponseTest, CallsAndThoughtsStandBesideTheText) {
  AnswerMessage answer;
  answer.add({.content = "", .reasoning = "Hm", .calls = {}}, "77");
  answer.add({.content = "", .reasoning = ".", .calls = {{.index = 0, .name = "f", .arguments = "{"}}}, "77");
  answer.add({.content = "",
              .reasoning = "",
              .calls = {{.index = 0, .name = "", .arguments = "}"}, {.index = 1, .name = "g", .arguments = ""}}},
             "77");
  const json out = writer(chat()).response(answer, {}, FinishReason::kStop, {}, kExtension);
  const json& choice = out["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_TRUE(choice["message"]["content"].is_null());
  EXPECT_EQ(choice["message"]["reasoning_content"], "Hm.");
  EXPECT_EQ(choice["message"]["tool_calls"],
            json::parse(R"([{"id": "call_77000", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                            {"id": "call_77001", "type": "function", "function": {"name": "g", "arguments": ""}}])"));
  EXPECT_EQ(writer(chat()).response(answer, {}, FinishReason::kLength, {}, kExtension)["choices"][0]["finish_reason"],
            "length");
  answer.content = "x";
  EXPECT_EQ(writer(chat()).response(answer, {}, FinishReason::kStop, {}, kExtension)["choices"][0]["message"]["content"],
            "x");
}

TEST(ResponseTest, AStreamedCallHasItsNameFirst) {
  CompletionWriter w = writer(chat());
  const auto delta_of = [&](const AnswerDelta& delta) { return data_of(w.delta_event(delta, {}))["choices"][0]["delta"]; };
  EXPECT_EQ(delta_of({.content = "", .reasoning = "Hm", .calls = {}}), json({{"reasoning_content", "Hm"}}));
  const json first =
      delta_of({.content = "", .reasoning = "", .calls = {{.index = 0, .name = "f", .arguments = "{\""}}})["tool_calls"][0];
  EXPECT_EQ(first["index"], 0);
  EXPECT_EQ(first["type"], "function");
  EXPECT_THAT(first["id"].get<std::string>(), testing::StartsWith("call_"));
  EXPECT_EQ(first["function"], json({{"name", "f"}, {"arguments", "{\""}}));
  const json more = delta_of({.content = "", .reasoning = "", .calls = {{.index = 0, .name = "", .arguments = "a"}}});
  EXPECT_EQ(more, json::parse(R"({"tool_calls": [{"index": 0, "function": {"arguments": "a"}}]})"));
  EXPECT_EQ(data_of(w.last_event(FinishReason::kStop, kExtension))["choices"][0]["finish_reason"], "tool_calls");
}

}  // namespace
}  // namespace celslm
