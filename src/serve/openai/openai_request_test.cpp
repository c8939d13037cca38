#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/grammar/grammar_limits.h"
#include "serve/openai/openai.h"

namespace celslm {
namespace {

using testing::HasSubstr;

// Bodies that are right but for the fields given: R"("top_k": 3)".
std::string chat_body(const std::string& fields) {
  return R"({"messages": [{"role": "user", "content": "hi"}])" + (fields.empty() ? "" : ", " + fields) + "}";
}
std::string completion_body(const std::string& fields) {
  return R"({"prompt": "hi")" + (fields.empty() ? "" : ", " + fields) + "}";
}

CompletionRequest chat(const std::string& fields) {
  auto request = parse_chat_request(chat_body(fields));
  EXPECT_TRUE(request) << fields << ": " << request.error().message;
  return request.value_or(CompletionRequest{});
}
CompletionRequest completion(const std::string& fields) {
  auto request = parse_completion_request(completion_body(fields));
  EXPECT_TRUE(request) << fields << ": " << request.error().message;
  return request.value_or(CompletionRequest{});
}
CompletionRequest with_messages(const std::string& messages) {
  auto request = parse_chat_request(R"({"messages": )" + messages + "}");
  EXPECT_TRUE(request) << messages << ": " << request.error().message;
  return request.value_or(CompletionRequest{.messages = {{}}});
}

const std::string kHandle(64, 'a');

TEST(RequestTest, DefaultsAreGreedyAndUnlimited) {
  for (const CompletionRequest& r : {chat(""), completion("")}) {
    EXPECT_EQ(r.model, "");
    EXPECT_EQ(r.max_tokens, std::nullopt);
    EXPECT_EQ(r.sampler.temperature, 0.0F);
    EXPECT_EQ(r.sampler.top_p, 1.0F);
    EXPECT_FALSE(r.seed_given || r.stream || r.include_usage || r.logprobs || r.echo || r.context);
    EXPECT_TRUE(r.stop.empty() && r.sampler.grammar.empty());
  }
  EXPECT_TRUE(chat("").chat);
  EXPECT_FALSE(completion("").chat);
}

TEST(RequestTest, NullIsTheSameAsAbsent) {
  for (const char* name : {"model",
                           "max_tokens",
                           "max_completion_tokens",
                           "temperature",
                           "top_p",
                           "top_k",
                           "min_p",
                           "seed",
                           "stop",
                           "stream",
                           "stream_options",
                           "frequency_penalty",
                           "presence_penalty",
                           "repeat_penalty",
                           "logprobs",
                           "top_logprobs",
                           "response_format",
                           "grammar",
                           "n",
                           "x_celslm",
                           "echo"}) {
    chat(fmt::format(R"("{}": null)", name));
    completion(fmt::format(R"("{}": null)", name));
  }
  EXPECT_FALSE(chat(R"("x_celslm": {"context": null})").context);
}

TEST(RequestTest, UnknownFieldsAreIgnored) {
  EXPECT_EQ(chat(R"("user": 7, "store": {"a": []}, "x_celslm": {"other": 1})").messages.size(), 1U);
  EXPECT_EQ(std::get<std::string>(completion(R"("guided": 1, "cache": "x")").prompt), "hi");
}

TEST(RequestTest, FieldsOfBothEndpointsArriveWhereTheyBelong) {
  const std::string fields =
      R"("model": "m", "max_tokens": 7, "temperature": 0.5, "top_p": 0.25, "top_k": 40, "min_p": 0.125,
    "seed": 9, "stop": ["a", "b"], "stream": true, "stream_options": {"include_usage": true}, "frequency_penalty": -2,
    "presence_penalty": 2, "repeat_penalty": 1.5, "grammar": "root ::= \"a\"", "n": 1, "x_celslm": {"context": ")" +
      kHandle + R"("})";
  for (const CompletionRequest& r : {chat(fields), completion(fields)}) {
    EXPECT_EQ(r.model, "m");
    EXPECT_EQ(r.max_tokens, 7);
    EXPECT_EQ(r.sampler.temperature, 0.5F);
    EXPECT_EQ(r.sampler.top_p, 0.25F);
    EXPECT_EQ(r.sampler.top_k, 40);
    EXPECT_EQ(r.sampler.min_p, 0.125F);
    EXPECT_EQ(r.sampler.seed, 9U);
    EXPECT_TRUE(r.seed_given);
    EXPECT_THAT(r.stop, testing::ElementsAre("a", "b"));
    EXPECT_TRUE(r.stream && r.include_usage);
    EXPECT_EQ(r.sampler.frequency_penalty, -2.0F);
    EXPECT_EQ(r.sampler.presence_penalty, 2.0F);
    EXPECT_EQ(r.sampler.repeat_penalty, 1.5F);
    EXPECT_EQ(r.sampler.grammar.text, "root ::= \"a\"");
    EXPECT_EQ(r.context, ContextHandle::from_hex(kHandle));
  }
}

TEST(RequestTest, TheNewerNameOfMaxTokensWins) {
  EXPECT_EQ(chat(R"("max_completion_tokens": 5)").max_tokens, 5);
  EXPECT_EQ(chat(R"("max_tokens": 4, "max_completion_tokens": 5)").max_tokens, 5);
}

TEST(RequestTest, StopMayBeOneString) {
  EXPECT_THAT(chat(R"("stop": "\n")").stop, testing::ElementsAre("\n"));
}

TEST(RequestTest, TopKIsOffAtZeroAndBelow) {
  EXPECT_EQ(chat(R"("top_k": -1)").sampler.top_k, 0);
  EXPECT_EQ(chat(R"("top_k": 0)").sampler.top_k, 0);
}

TEST(RequestTest, JsonModeIsAskedForByResponseFormat) {
  EXPECT_THAT(chat(R"("response_format": {"type": "json_object"})").sampler.grammar.text, HasSubstr("root ::= json-object"));
  EXPECT_TRUE(chat(R"("response_format": {"type": "text"})").sampler.grammar.empty());
}

TEST(RequestTest, UsageIsForStreamsOnly) {
  EXPECT_FALSE(chat(R"("stream_options": {"include_usage": true})").include_usage);
}

TEST(RequestTest, EverySeedOfTheApiIsReproducible) {
  // 0xffffffff means "draw one" to the sampler.
  for (const char* seed : {"4294967295", "-1", "-9223372036854775808", "9223372036854775807"}) {
    const CompletionRequest r = chat(fmt::format(R"("seed": {})", seed));
    EXPECT_TRUE(r.seed_given);
    EXPECT_NE(r.sampler.seed, 0xFFFFFFFFU) << seed;
  }
  EXPECT_NE(chat(R"("seed": 1)").sampler.seed, chat(R"("seed": 4294967297)").sampler.seed);
}

TEST(RequestTest, ChatLogprobsAreAFlagAndANumber) {
  const CompletionRequest r = chat(R"("logprobs": true, "top_logprobs": 20)");
  EXPECT_TRUE(r.logprobs);
  EXPECT_EQ(r.top_logprobs, 20);
  EXPECT_EQ(chat(R"("logprobs": true)").top_logprobs, 0);
}

TEST(RequestTest, CompletionLogprobsAreANumber) {
  EXPECT_TRUE(completion(R"("logprobs": 0)").logprobs);
  EXPECT_EQ(completion(R"("logprobs": 5)").top_logprobs, 5);
}

TEST(RequestTest, ContentMayBeTextParts) {
  const CompletionRequest r =
      with_messages(R"([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}])");
  EXPECT_EQ(r.messages.front().content, "a\nb");
}

TEST(RequestTest, DeveloperIsAnotherWordForSystem) {
  EXPECT_EQ(with_messages(R"([{"role": "developer", "content": "x"}])").messages.front().role, "system");
}

TEST(RequestTest, AnAssistantMayHaveSaidNothing) {
  const CompletionRequest r =
      with_messages(R"([{"role": "assistant", "content": null}, {"role": "tool", "content": "é\u0000"}])");
  EXPECT_EQ(r.messages.front().content, "");
  EXPECT_EQ(r.messages.back().content, std::string("é\0", 3));
}

TEST(RequestTest, PromptMayBeTokensOrAListOfOne) {
  const auto prompt = [](const std::string& json) {
    return parse_completion_request(R"({"echo": true, "prompt": )" + json + "}");
  };
  EXPECT_EQ(std::get<std::string>(prompt(R"("")")->prompt), "");
  EXPECT_EQ(std::get<std::string>(prompt(R"(["a"])")->prompt), "a");
  EXPECT_EQ(std::get<std::vector<Token>>(prompt("[1, 2]")->prompt), (std::vector<Token>{1, 2}));
  EXPECT_EQ(std::get<std::vector<Token>>(prompt("[[2147483647]]")->prompt), std::vector<Token>{2147483647});
  EXPECT_TRUE(prompt("[1]")->echo);
}

struct BadField {
  std::string field;     // as it stands in the body
  std::string expected;  // of the message
};
void PrintTo(const BadField& bad, std::ostream* out) {
  *out << bad.field.substr(0, 80);
}

class BadFieldTest : public testing::TestWithParam<BadField> {};
class BadChatTest : public testing::TestWithParam<BadField> {};
class BadCompletionTest : public testing::TestWithParam<BadField> {};

void expect_refused(const Result<CompletionRequest>& request, const BadField& bad) {
  ASSERT_FALSE(request) << bad.field;
  EXPECT_EQ(request.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(request.error().message, HasSubstr(bad.expected));
}

TEST_P(BadFieldTest, IsRefusedByNameAtBothEndpoints) {
  expect_refused(parse_chat_request(chat_body(GetParam().field)), GetParam());
  expect_refused(parse_completion_request(completion_body(GetParam().field)), GetParam());
}

const char* const kStopWhat = "'stop' must be a string or an array of at most 16 strings, each of 1 to 1024 bytes";

INSTANTIATE_TEST_SUITE_P(
    Fields, BadFieldTest,
    testing::Values(
        BadField{R"("model": 7)", "'model' must be a string"},
        BadField{R"("model": ")" + std::string(1025, 'm') + '"', "'model' must be at most 1024 bytes"},
        BadField{R"("max_tokens": "7")", "'max_tokens' must be a whole number from "},
        BadField{R"("max_tokens": -1)", "'max_tokens'"}, BadField{R"("max_tokens": 1.5)", "'max_tokens'"},
        BadField{R"("max_tokens": 2147483648)", "'max_tokens'"},
        BadField{R"("max_tokens": 18446744073709551615)", "'max_tokens'"}, BadField{R"("max_tokens": true)", "'max_tokens'"},
        BadField{R"("max_completion_tokens": -1)", "'max_completion_tokens'"},
        BadField{R"("temperature": "1")", "'temperature' must be a number from 0 to 2"},
        BadField{R"("temperature": -0.1)", "'temperature'"}, BadField{R"("temperature": 2.1)", "'temperature'"},
        BadField{R"("temperature": 1e308)", "'temperature'"}, BadField{R"("temperature": 1e999)", "malformed JSON"},
        BadField{R"("top_p": 1.1)", "'top_p' must be a number from 0 to 1"}, BadField{R"("top_p": -1)", "'top_p'"},
        BadField{R"("top_p": [1])", "'top_p'"}, BadField{R"("min_p": 2)", "'min_p'"}, BadField{R"("min_p": "x")", "'min_p'"},
        BadField{R"("top_k": -2)", "'top_k' must be a whole number from -1"}, BadField{R"("top_k": 1.0)", "'top_k'"},
        BadField{R"("seed": "1")", "'seed' must be a whole number"}, BadField{R"("seed": 1.5)", "'seed'"},
        BadField{R"("seed": 9223372036854775808)", "'seed'"},
        BadField{R"("frequency_penalty": 2.5)", "'frequency_penalty' must be a number from -2 to 2"},
        BadField{R"("frequency_penalty": {})", "'frequency_penalty'"},
        BadField{R"("presence_penalty": -2.5)", "'presence_penalty'"},
        BadField{R"("presence_penalty": false)", "'presence_penalty'"},
        BadField{R"("repeat_penalty": 0)", "'repeat_penalty' must be a number from 0.1 to 10"},
        BadField{R"("repeat_penalty": "1")", "'repeat_penalty'"}, BadField{R"("stop": 7)", kStopWhat},
        BadField{R"("stop": "")", kStopWhat}, BadField{R"("stop": ["a", ""])", kStopWhat},
        BadField{R"("stop": ["a", null])", kStopWhat}, BadField{R"("stop": {"a": "b"})", kStopWhat},
        BadField{R"("stop": ")" + std::string(1025, 's') + '"', kStopWhat},
        BadField{R"("stop": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17])", kStopWhat},
        BadField{R"("stream": 1)", "'stream' must be true or false"}, BadField{R"("stream": "true")", "'stream'"},
        BadField{R"("stream_options": [])", "'stream_options' must be an object"},
        BadField{R"("stream_options": {"include_usage": 1})", "'stream_options.include_usage' must be true or false"},
        BadField{R"("n": 129)", "'n' must be a whole number from 1 to 128"}, BadField{R"("n": 0)", "'n'"},
        BadField{R"("best_of": 2)", "'best_of' must be absent"}, BadField{R"("n": 2, "best_of": 3)", "'best_of'"},
        BadField{R"("suffix": "x")", "'suffix' must be absent"},
        BadField{R"("logit_bias": [])", "'logit_bias' must be an object"},
        BadField{R"("logit_bias": {"x": 1})", "'logit_bias'"}, BadField{R"("logit_bias": {"1": 101})", "'logit_bias'"},
        BadField{R"("logit_bias": {"1": null})", "'logit_bias'"}, BadField{R"("logit_bias": {"-1": 1})", "'logit_bias'"},
        BadField{R"("n": "1")", "'n'"}, BadField{R"("grammar": 1)", "'grammar' must be a string"},
        BadField{R"("grammar": ")" + std::string(kMaxGrammarBytes + 1, 'g') + '"', "'grammar' must be at most 65536 bytes"},
        BadField{R"("response_format": "json")", "'response_format' must be an object"},
        BadField{R"("response_format": {})", "'response_format.type' must be 'text', 'json_object' or 'json_schema'"},
        BadField{R"("response_format": {"type": "json_schema"})", "'response_format.json_schema' must be an object with"},
        BadField{R"("response_format": {"type": "json_schema", "json_schema": {"schema": 7}})",
                 "'response_format.json_schema.schema': the schema must be an object"},
        BadField{
            R"("response_format": {"type": "json_schema", "json_schema": {"schema": {"properties": {"a": {"not": {}}}}}})",
            "'response_format.json_schema.schema': 'properties.a.not': this keyword is not supported"},
        BadField{R"("response_format": {"type": "json_object", "schema": {"if": {}}})",
                 "'response_format.schema': 'if': this keyword"},
        BadField{R"("response_format": {"type": 1})", "'response_format.type' must be a string"},
        BadField{R"("grammar": "g", "response_format": {"type": "json_object"})", "'grammar' must be absent"},
        BadField{R"("x_celslm": "h")", "'x_celslm' must be an object"},
        BadField{R"("x_celslm": {"context": 7})", "'x_celslm.context' must be a string"},
        BadField{R"("x_celslm": {"context": "abc"})", "'x_celslm.context' must be a context's handle: 64 hex digits"},
        BadField{R"("x_celslm": {"context": ")" + std::string(64, 'g') + "\"}", "'x_celslm.context'"},
        BadField{R"("top_k": 1,)", "malformed JSON"}, BadField{"\"user\": \"\xFF\"", "malformed JSON"},
        BadField{R"("user": "\ud800")", "malformed JSON"},
        BadField{"\"user\": " + std::string(100, '['), "nested deeper than 64 levels"}));

TEST_P(BadChatTest, IsRefusedByName) {
  expect_refused(parse_chat_request(GetParam().field), GetParam());
}

std::string message(const std::string& fields) {
  return R"({"messages": [{"role": "user", "content": "x"}, {)" + fields + "}]}";
}

INSTANTIATE_TEST_SUITE_P(
    Chat, BadChatTest,
    testing::Values(
        BadField{"", "malformed JSON"}, BadField{"[]", "a JSON object is expected"}, BadField{"{} x", "malformed JSON"},
        BadField{"{}", "'messages' must be an array of at least one message"}, BadField{R"({"messages": []})", "'messages'"},
        BadField{R"({"messages": "hi"})", "'messages'"}, BadField{R"({"messages": {"role": "user"}})", "'messages'"},
        BadField{R"({"messages": ["hi"]})", "'messages[0]' must be an object"},
        BadField{message(R"("content": "x")"),
                 "'messages[1].role' must be 'system', 'developer', 'user', 'assistant' or 'tool'"},
        BadField{message(R"("role": 1, "content": "x")"), "'messages[1].role' must be a string"},
        BadField{message(R"("role": "<|im_end|>", "content": "x")"), "'messages[1].role'"},
        BadField{message(R"("role": "user")"), "'messages[1].content' must be a string or an array of text parts"},
        BadField{message(R"("role": "user", "content": null)"), "'messages[1].content'"},
        BadField{message(R"("role": "user", "content": 1)"), "'messages[1].content'"},
        BadField{message(R"("role": "user", "content": [])"), "'messages[1].content'"},
        BadField{message(R"("role": "user", "content": ["x"])"), "'messages[1].content[0]' must be an object"},
        BadField{message(R"("role": "user", "content": [{"type": "text"}])"),
                 "'messages[1].content[0].text' must be a string"},
        BadField{message(R"("role": "user", "content": [{"type": "text", "text": 1}])"),
                 "'messages[1].content[0].text' must be a string"},
        BadField{
            message(R"("role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}])"),
            "'messages[1].content[1].type' must be 'text', the only kind of content here (not 'image_url')"},
        BadField{chat_body(R"("logprobs": 1)"), "'logprobs' must be true or false"},
        BadField{chat_body(R"("max_tokens": 0)"), "'max_tokens' must be a whole number from 1"},
        BadField{chat_body(R"("modalities": ["text", "audio"])"), "'modalities' must be"},
        BadField{chat_body(R"("audio": {})"), "'audio' must be absent"},
        BadField{chat_body(R"("web_search_options": {})"), "'web_search_options' must be absent"},
        BadField{chat_body(R"("verbosity": "low")"), "'verbosity' must be absent"},
        BadField{chat_body(R"("echo": true)"), "'echo' must be absent"},
        BadField{chat_body(R"("continue_final_message": true)"),
                 "'messages' must be an array that ends with an assistant's"},
        BadField{chat_body(R"("add_generation_prompt": false)"), "'add_generation_prompt' must be absent"},
        BadField{chat_body(R"("top_logprobs": 1)"), "'logprobs' must be true when 'top_logprobs' is given"},
        BadField{chat_body(R"("logprobs": true, "top_logprobs": 21)"), "'top_logprobs' must be a whole number from 0 to 20"},
        BadField{R"({"messages": [{"role": "system", "content": "s"}], "x_celslm": {"context": ")" + kHandle + "\"}}",
                 "'x_celslm.context' must be absent when the first message is a system message"}));

TEST_P(BadCompletionTest, IsRefusedByName) {
  expect_refused(parse_completion_request(GetParam().field), GetParam());
}

INSTANTIATE_TEST_SUITE_P(
    Completion, BadCompletionTest,
    testing::Values(BadField{"{", "malformed JSON"}, BadField{"{}", "'prompt' must be a string, an array of token ids, or"},
                    BadField{R"({"prompt": null})", "'prompt'"}, BadField{R"({"prompt": 1})", "'prompt'"},
                    BadField{R"({"prompt": []})", "'prompt'"}, BadField{R"({"prompt": {}})", "'prompt'"},
                    BadField{R"({"prompt": [[]]})", "'prompt[0]'"},
                    BadField{R"({"prompt": ["a", 1]})", "'prompt[1]' must be a string or an array of token ids"},
                    BadField{R"({"prompt": ["a", "b"], "n": 100})", "'n' must be so small"},
                    BadField{R"({"prompt": [1, "a"]})", "'prompt[1]' must be a token id"},
                    BadField{R"({"prompt": [-1]})", "'prompt[0]'"}, BadField{R"({"prompt": [1.5]})", "'prompt[0]'"},
                    BadField{R"({"prompt": [2147483648]})", "'prompt[0]'"}, BadField{R"({"prompt": [true]})", "'prompt[0]'"},
                    BadField{completion_body(R"("echo": 1)"), "'echo' must be true or false"},
                    BadField{completion_body(R"("logprobs": true)"), "'logprobs' must be a whole number from 0 to 20"},
                    BadField{completion_body(R"("logprobs": 21)"), "'logprobs'"}));

std::string body_of_many_objects(int n) {
  std::string body = R"({"messages": [)";
  for (int i = 0; i < n; ++i) body += "{},";
  return body + "{}]}";
}

TEST(RequestTest, ValuesThatAskForNothingAreNoReasonToRefuse) {
  completion(R"("n": 3, "best_of": 3, "suffix": "")");
  completion(R"("best_of": 1, "suffix": null)");
  chat(R"("modalities": ["text"], "verbosity": "medium", "audio": null, "user": "u", "store": false)");
}

TEST(RequestTest, TakesSeveralPromptsAndTexts) {
  const auto request = parse_completion_request(R"({"prompt": ["a", [1, 2]], "n": 2, "max_tokens": 0})");
  ASSERT_TRUE(request) << request.error().message;
  ASSERT_EQ(request->prompts.size(), 2U);
  EXPECT_EQ(std::get<std::vector<Token>>(request->prompts[1]), (std::vector<Token>{1, 2}));
  EXPECT_EQ(request->n, 2);
  EXPECT_EQ(request->max_tokens, 0);
}

TEST(RequestLimitTest, MillionsOfValuesAreRefused) {
  const auto request = parse_chat_request(body_of_many_objects(2'500'000));
  ASSERT_FALSE(request);
  EXPECT_THAT(request.error().message, HasSubstr("more than 1048576 values"));
}

TEST(RequestLimitTest, ABodyOfVeryManyObjectsIsReadInLinearTime) {
  // Quadratic time would be minutes here, and the test's time limit would end it.
  const auto request = parse_chat_request(body_of_many_objects(1'000'000));
  ASSERT_FALSE(request);
  EXPECT_THAT(request.error().message, HasSubstr("messages[0].role"));
}

}  // namespace
}  // namespace celslm
