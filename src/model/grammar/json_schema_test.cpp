#include "model/grammar/json_schema.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "model/constraint/grammar_matcher.h"
#include "model/grammar/string_formats.h"
#include "model/text/sampler.h"
#include "tests/support/vocabulary_suite.h"

namespace celslm {
namespace {

using nlohmann::ordered_json;
using testing::HasSubstr;

class JsonSchemaTest : public testing_support::VocabularySuite {
 protected:
  static void SetUpTestSuite() {
    VocabularySuite::SetUpTestSuite();
    pieces_ = new TokenPieces(*text_);
  }
  static void TearDownTestSuite() {
    delete pieces_;
    VocabularySuite::TearDownTestSuite();
  }
  static Result<std::string> grammar(const std::string& schema) {
    GrammarBuilder builder;
    CELSLM_TRY(const std::string rule, builder.add_schema("answer", ordered_json::parse(schema)));
    return builder.text(rule);
  }
  static std::string refusal(const std::string& schema) {
    const auto made = grammar(schema);
    return made ? "accepted" : made.error().message;
  }
  // Whether libllama's engine lets this be a complete answer.
  static bool accepts(const std::string& schema, const std::string& answer) {
    const auto made = grammar(schema);
    if (!made) return ADD_FAILURE() << made.error().message << " in " << schema, false;
    auto matcher = GrammarMatcher::create(*text_, *pieces_, *made);
    if (!matcher) return ADD_FAILURE() << "does not parse: " << *made, false;
    return matcher->offer(std::string_view(answer)) && matcher->allowed().has(end_token(*text_));
  }
  static void expect(const std::string& schema, const std::vector<std::string>& accepted,
                     const std::vector<std::string>& refused) {
    for (const std::string& answer : accepted) EXPECT_TRUE(accepts(schema, answer)) << schema << " should accept " << answer;
    for (const std::string& answer : refused) EXPECT_FALSE(accepts(schema, answer)) << schema << " should refuse " << answer;
  }

  static inline const TokenPieces* pieces_ = nullptr;
};

TEST_F(JsonSchemaTest, AnyValue) {
  expect("{}", {"{}", "[]", "[1, \"a\", null]", R"({"a": {"b": [true]}})", "-0.5e3", R"("\n\u00e4\"")"},
         {"", "{", "[1,]", "01", "'a'", R"("\ud800")", R"("\x")", "nul"});
}

TEST_F(JsonSchemaTest, TypesOneOrSeveral) {
  expect(R"({"type": "boolean"})", {"true", "false"}, {"null", "1"});
  expect(R"({"type": ["string", "null"]})", {"null", "\"\""}, {"1"});
  expect(R"({"type": "string", "nullable": true})", {"null", "\"a\""}, {"1"});
}

TEST_F(JsonSchemaTest, PropertiesComeInTheSchemasOrderAndRequiredOnesAlways) {
  const std::string schema = R"({"type": "object", "properties": {"z": {"type": "integer"}, "a": {"type": "integer"},
    "m": {"type": "integer"}}, "required": ["a"], "additionalProperties": false})";
  expect(schema, {R"({"a":1})", R"({"z": 1, "a": 2})", R"({"a":1,"m":2})", R"({ "z":1,"a":1,"m":1 })"},
         {"{}", R"({"a":1,"z":2})", R"({"z":1})", R"({"a":1,"b":2})", R"({"a":1,})", R"({"a":"1"})"});
}

TEST_F(JsonSchemaTest, AllPropertiesMayBeAbsent) {
  expect(R"({"properties": {"a": {"type": "null"}, "b": {"type": "null"}}})",
         {"{}", R"({"a":null})", R"({"b":null})", R"({"a":null,"b":null})"},
         {R"({"b":null,"a":null})", R"({"c":null})", "1"});
}

TEST_F(JsonSchemaTest, AdditionalProperties) {
  expect(R"({"type": "object", "additionalProperties": {"type": "integer"}})", {"{}", R"({"x":1,"y":2})"}, {R"({"x":"1"})"});
  const std::string schema = R"({"properties": {"ab": {"type": "string"}, "a": {"type": "string"}}, "required": ["ab"],
    "additionalProperties": {"type": "integer"}})";
  expect(schema, {R"({"ab":"x"})", R"({"ab":"x","abc":1})", R"({"ab":"x","b":1,"":2})", R"({"ab":"x","a":"y"})"},
         {R"({"ab":"x","a":1})", R"({"ab":"x","b":"y"})", R"({"ab":1})", R"({"ab":"x","\u0061":1})"});
}

TEST_F(JsonSchemaTest, Arrays) {
  expect(R"({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3})", {"[1]", "[1, 2,3]"},
         {"[]", "[1,2,3,4]", "[\"a\"]"});
  expect(R"({"type": "array", "maxItems": 0})", {"[]"}, {"[1]"});
  expect(R"({"items": {"type": "null"}})", {"[]", "[null]", "[null,null]"}, {"null", "[1]"});
  expect(R"({"prefixItems": [{"type": "string"}, {"type": "integer"}], "items": false})", {R"(["a",1])"},
         {R"(["a"])", R"(["a",1,2])"});
  expect(R"({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}, "minItems": 2})",
         {R"(["a",1])", R"(["a",1,2])"}, {R"(["a"])", R"(["a","b"])"});
}

TEST_F(JsonSchemaTest, ConstantsAndChoices) {
  expect(R"({"enum": ["red", "gr\"een", 3, null, {"a": 1}]})", {R"("red")", R"("gr\"een")", "3", "null", R"({"a":1})"},
         {R"("blue")", "33"});
  expect(R"({"type": "string", "enum": ["a", 1]})", {R"("a")"}, {"1"});
  expect(R"({"const": "ä"})", {R"("ä")"}, {R"("a")"});
  expect(R"({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"const": 0}}]})", {"7", "[0,0]"}, {"[1]", "\"\""});
  expect(R"({"type": "string", "oneOf": [{"const": "x"}, {"format": "date"}]})", {R"("x")", R"("2026-01-31")"}, {"1"});
}

TEST_F(JsonSchemaTest, ReferencesAndRecursion) {
  const std::string tree = R"({"$defs": {"node": {"type": "object", "properties": {"v": {"type": "integer"}, "next":
    {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}, "required": ["v", "next"]}}, "$ref": "#/$defs/node"})";
  expect(tree, {R"({"v":1,"next":null})", R"({"v":1,"next":{"v":2,"next":null}})"}, {R"({"v":1})", R"({"v":1,"next":{}})"});
  expect(R"({"properties": {"c": {"$ref": "#"}}})", {R"({"c":{"c":{}}})"}, {R"({"c":1})"});
  EXPECT_THAT(refusal(R"({"$ref": "#"})"), HasSubstr("refers to itself"));
  EXPECT_THAT(
      refusal(R"({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"})"),
      HasSubstr("refers to itself"));
  for (const char* target : {"#/$defs/none", "http://example.org/x", "#/~", "", "#node"})
    EXPECT_THAT(refusal(fmt::format(R"({{"$ref": "{}"}})", target)), HasSubstr("is not in the schema")) << target;
}

TEST_F(JsonSchemaTest, LengthsOfStrings) {
  expect(R"({"type": "string", "minLength": 2, "maxLength": 3})", {R"("ab")", R"("äöü")", R"("\n\n")"},
         {R"("a")", R"("abcd")"});
  for (const int n : {1, 63, 64, 65, 99, 100, 101, 1000, 5000}) {
    const std::string most = fmt::format(R"({{"maxLength": {}}})", n);
    const std::string least = fmt::format(R"({{"minLength": {}}})", n);
    const std::string exact(static_cast<std::size_t>(n), 'x');
    expect(most, {"\"" + exact + "\"", "\"\"", "\"" + exact.substr(1) + "\""}, {"\"" + exact + "x\""});
    expect(least, {"\"" + exact + "\"", "\"" + exact + "x\""}, {"\"" + exact.substr(1) + "\""});
  }
}

TEST_F(JsonSchemaTest, Patterns) {
  expect(R"({"pattern": "^[A-Z]{2}-\\d+$"})", {R"("AB-12")"}, {R"("AB-")", R"("ABC-1")", R"("xAB-1")"});
  expect(R"({"pattern": "b+"})", {R"("abba")", R"("b")"}, {R"("aa")", R"("")"});
  expect(R"({"pattern": "^a|b$"})", {R"("axx")", R"("xxb")"}, {R"("xax")"});
  expect(R"({"pattern": "^(?:x|yy){2,3}?$"})", {R"("xyy")", R"("xxx")"}, {R"("x")", R"("xxxx")"});
  expect(R"({"pattern": "^[^a\"]$"})", {R"("b")", R"("\\")", R"("\n")"}, {R"("a")", R"("\"")"});
  expect(R"({"pattern": "^\\s\\.\\u0041$"})", {R"(" .A")", R"("\t.A")"}, {R"("x.A")"});
  for (const char* pattern : {"(?=a)", "(?<!a)", "\\\\1", "\\\\bx", "\\\\p{L}", "a{2,1}", "(a", "a)", "[a", "*a", "a{x}",
                              "a**", "a{1,2000000}", "[b-a]", "a\\\\", "a$b", "a^"})
    EXPECT_THAT(refusal(fmt::format(R"({{"pattern": "{}"}})", pattern)), HasSubstr("'pattern': the pattern:")) << pattern;
}

TEST_F(JsonSchemaTest, Formats) {
  const std::map<std::string, std::pair<std::string, std::string>> examples{
      {"date", {"2026-11-28", "2026-13-01"}},
      {"time", {"08:10:59Z", "25:00:00Z"}},
      {"date-time", {"2026-11-28T08:10:59.5+01:00", "2026-11-28 08:10"}},
      {"duration", {"P3DT4H", "3D"}},
      {"email", {"a.b@example.org", "a@"}},
      {"hostname", {"a-1.example", "-a"}},
      {"ipv4", {"192.168.0.255", "192.168.0.256"}},
      {"ipv6", {"2001:db8::1", "2001:db8:::1"}},
      {"uri", {"https://example.org/a?b=c", "no scheme"}},
      {"uuid", {"123e4567-e89b-12d3-a456-426614174000", "123e4567"}}};
  for (const std::string_view format : string_formats()) {
    const auto& [good, bad] = examples.at(std::string(format));
    expect(fmt::format(R"({{"type": "string", "format": "{}"}})", format), {'"' + good + '"'}, {'"' + bad + '"'});
  }
  EXPECT_THAT(refusal(R"({"format": "colour"})"), HasSubstr("'format': 'colour' is not supported; date, "));
}

TEST_F(JsonSchemaTest, WholeNumbersBetweenBounds) {
  for (const auto& [low, high] :
       std::vector<std::pair<int, int>>{{0, 9}, {1, 120}, {-5, 17}, {-120, -7}, {99, 1001}, {0, 0}}) {
    const std::string schema = fmt::format(R"({{"type": "integer", "minimum": {}, "maximum": {}}})", low, high);
    const auto made = grammar(schema).value();
    for (int n = low - 12; n <= high + 12; ++n) {
      auto matcher = GrammarMatcher::create(*text_, *pieces_, made);
      const bool accepted = matcher->offer(std::string_view(fmt::to_string(n))) && matcher->allowed().has(end_token(*text_));
      EXPECT_EQ(accepted, n >= low && n <= high) << n << " in " << schema;
    }
  }
  expect(R"({"type": "integer", "exclusiveMinimum": 3})", {"4", "10", "1000000"}, {"3", "-4", "4.5"});
  expect(R"({"type": "integer", "maximum": 2.5})", {"2", "-100"}, {"3"});
}

TEST_F(JsonSchemaTest, NumbersBetweenBounds) {
  expect(R"({"type": "number", "minimum": 0, "maximum": 1})", {"0", "1", "0.25", "1.0", "0.999"}, {"1.01", "-0.1", "2"});
  expect(R"({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 2})", {"0.01", "1", "1.99"},
         {"0", "0.0", "2", "2.0"});
  expect(R"({"type": "number", "minimum": -2, "maximum": -1})", {"-1", "-1.5", "-2.00"}, {"-2.1", "-0.9", "1"});
  expect(R"({"type": "number", "minimum": -1})", {"-0.5", "-1", "7.25"}, {"-1.5", "-2"});
}

TEST_F(JsonSchemaTest, WhatIsNotSupportedIsNamedWithItsPlace) {
  EXPECT_THAT(refusal(R"({"properties": {"a": {"items": {"not": {}}}}})"),
              HasSubstr("'properties.a.items.not': this keyword"));
  for (const char* keyword :
       {"not", "if", "contains", "patternProperties", "propertyNames", "minProperties", "dependentRequired", "tpye"})
    EXPECT_THAT(refusal(fmt::format(R"({{"{}": {{}}}})", keyword)),
                HasSubstr(fmt::format("'{}': this keyword is not supported", keyword)));
  EXPECT_THAT(refusal(R"({"type": "array", "uniqueItems": true})"), HasSubstr("uniqueItems"));
  EXPECT_THAT(refusal(R"({"type": "number", "multipleOf": 0.1})"), HasSubstr("multipleOf"));
  EXPECT_THAT(refusal(R"({"type": "number", "minimum": 0.5})"), HasSubstr("whole bounds"));
  EXPECT_THAT(refusal(R"({"type": "integer", "minimum": 5, "maximum": 3})"), HasSubstr("no number"));
  EXPECT_THAT(refusal(R"({"allOf": [{}, {}]})"), HasSubstr("more than one"));
  EXPECT_THAT(refusal(R"({"anyOf": [{}], "properties": {}})"), HasSubstr("beside 'anyOf'"));
  EXPECT_THAT(refusal(R"({"type": "colour"})"), HasSubstr("'type' must be one or a list of"));
  EXPECT_THAT(refusal(R"({"properties": {"a": false}})"), HasSubstr("'properties.a': false accepts no value"));
  EXPECT_THAT(refusal(R"({"properties": {}, "required": ["a"], "additionalProperties": false})"),
              HasSubstr("which is no property"));
  EXPECT_THAT(refusal(R"({"minItems": 3, "maxItems": 2})"), HasSubstr("below minItems"));
  EXPECT_THAT(refusal(R"({"maxLength": 1000000000})"), HasSubstr("must be a whole number from 0 to 100000"));
}

TEST_F(JsonSchemaTest, UnreasonableDocumentsAreRefused) {
  std::string deep = "{}";
  for (int i = 0; i < 60; ++i) deep = R"({"items": )" + deep + "}";
  EXPECT_THAT(refusal(deep), HasSubstr("levels deep"));
  std::string wide = R"({"properties": {)";
  for (int i = 0; i < 6000; ++i) wide += fmt::format(R"("p{}": {{"type": "null"}},)", i);
  EXPECT_THAT(refusal(wide + R"("q": {}}})"), HasSubstr("more than 5000 parts"));
}

TEST_F(JsonSchemaTest, BuildersKeepTheirRulesApart) {
  GrammarBuilder builder;
  const std::string a = builder.add_schema("tool", ordered_json::parse(R"({"const": 1})")).value();
  const std::string b = builder.add_schema("tool", ordered_json::parse(R"({"const": 2})")).value();
  EXPECT_FALSE(builder.add_schema("tool", ordered_json::parse(R"({"not": 2})")));
  const std::string both = builder.add_rule("call", fmt::format("{} {} {}", a, gbnf_literal("\"\\\n"), b)).value();
  auto matcher = GrammarMatcher::create(*text_, *pieces_, builder.text(both).value());
  ASSERT_TRUE(matcher);
  EXPECT_TRUE(matcher->offer(std::string_view("1\"\\\n2")));
  EXPECT_FALSE(builder.text("missing"));
}

}  // namespace
}  // namespace celslm
