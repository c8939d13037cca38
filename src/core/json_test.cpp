#include "core/json.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace celslm {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::string nested(int depth) {
  return R"({"a":)" + std::string(static_cast<std::size_t>(depth), '[') + std::string(static_cast<std::size_t>(depth), ']') +
         "}";
}

template <typename T>
std::string message_of(const Result<T>& result) {
  if (result) return "no error";
  EXPECT_EQ(result.error().kind, ErrorKind::kInvalid);
  return result.error().message;
}

TEST(ParseObjectTest, TakesObjectsWithinTheLimits) {
  EXPECT_EQ(parse_object(R"({"a": [1, 2]})").value()["a"][1], 2);
  EXPECT_TRUE(parse_object(nested(3), {.depth = 4}));
  EXPECT_TRUE(parse_object(R"({"a": [1, 2]})", {.values = 4}));
}

TEST(ParseObjectTest, RefusesEverythingElse) {
  EXPECT_EQ(message_of(parse_object(R"({"a": 1)")), "malformed JSON at byte 8");
  EXPECT_THAT(message_of(parse_object("")), HasSubstr("malformed"));
  EXPECT_THAT(message_of(parse_object("{} {}")), HasSubstr("malformed"));
  EXPECT_EQ(message_of(parse_object("[]")), "a JSON object is expected, not array");
  EXPECT_EQ(message_of(parse_object(nested(4), {.depth = 4})), "JSON is nested deeper than 4 levels");
  EXPECT_EQ(message_of(parse_object(R"({"a": [1, 2]})", {.values = 3})), "JSON holds more than 3 values");
}

TEST(ParseObjectTest, SurvivesADocumentThatIsOnlyDepth) {
  EXPECT_THAT(message_of(parse_object(nested(1'000'000))), HasSubstr("deeper than 64"));
}

TEST(DumpJsonTest, ReplacesWhatIsNotUtf8) {
  EXPECT_EQ(dump_json({{"a", "x\xff"}}), "{\"a\":\"x\xEF\xBF\xBD\"}");
}

class JsonFieldsTest : public testing::Test {
 protected:
  const json object_ = json::parse(R"({"nothing": null, "flag": true, "int": -5, "big": 18446744073709551615, "real": 1.5,
                                       "text": "abc", "list": [1, 2], "object": {"inner": {}}})");
  const JsonFields fields_{object_, "top."};
};

TEST_F(JsonFieldsTest, GivesWhatIsThere) {
  EXPECT_EQ(fields_.flag("flag").value(), true);
  EXPECT_EQ(fields_.integer("int", -5, 5).value(), -5);
  EXPECT_EQ(fields_.number("real", 1.5, 2).value(), 1.5);
  EXPECT_EQ(fields_.number("int", -10, 0).value(), -5.0);
  EXPECT_EQ(fields_.text("text", 3).value(), "abc");
  EXPECT_EQ(fields_.list("list", 2).value()->size(), 2U);
  EXPECT_TRUE(fields_.object("object").value()->find("inner"));
  EXPECT_TRUE(fields_.required_flag("flag").value());
  EXPECT_EQ(fields_.required_integer("int", -5, 5).value(), -5);
  EXPECT_EQ(fields_.required_text("text").value(), "abc");
  EXPECT_EQ(fields_.required_list("list", 2).value()->size(), 2U);
}

TEST_F(JsonFieldsTest, NullIsAbsent) {
  for (const char* name : {"nothing", "missing"}) {
    EXPECT_EQ(fields_.find(name), nullptr);
    EXPECT_FALSE(fields_.flag(name).value());
    EXPECT_FALSE(fields_.integer(name, 0, 1).value());
    EXPECT_FALSE(fields_.number(name, 0, 1).value());
    EXPECT_FALSE(fields_.text(name).value());
    EXPECT_FALSE(fields_.object(name).value());
    EXPECT_EQ(fields_.list(name, 1).value(), nullptr);
    EXPECT_EQ(message_of(fields_.required_flag(name)), fmt::format("field 'top.{}' must be true or false", name));
    EXPECT_EQ(message_of(fields_.required_integer(name, 0, 1)),
              fmt::format("field 'top.{}' must be a whole number from 0 to 1", name));
    EXPECT_EQ(message_of(fields_.required_text(name)), fmt::format("field 'top.{}' must be a string", name));
    EXPECT_EQ(message_of(fields_.required_object(name)), fmt::format("field 'top.{}' must be an object", name));
    EXPECT_EQ(message_of(fields_.required_list(name, 1)), fmt::format("field 'top.{}' must be a list", name));
    EXPECT_EQ(message_of(fields_.required_hash(name)), fmt::format("field 'top.{}' must be a string", name));
  }
}

TEST_F(JsonFieldsTest, RefusesOtherTypesAndRanges) {
  EXPECT_EQ(message_of(fields_.flag("int")), "field 'top.int' must be true or false");
  EXPECT_EQ(message_of(fields_.integer("real", 0, 5)), "field 'top.real' must be a whole number from 0 to 5");
  EXPECT_EQ(message_of(fields_.integer("int", -4, 5)), "field 'top.int' must be a whole number from -4 to 5");
  EXPECT_THAT(message_of(fields_.integer("big", 0, std::numeric_limits<std::int64_t>::max())), HasSubstr("whole number"));
  EXPECT_EQ(message_of(fields_.number("text", 0, 1.5)), "field 'top.text' must be a number from 0 to 1.5");
  EXPECT_EQ(message_of(fields_.number("real", 0, 1)), "field 'top.real' must be a number from 0 to 1");
  EXPECT_EQ(message_of(fields_.text("int")), "field 'top.int' must be a string");
  EXPECT_EQ(message_of(fields_.text("text", 2)), "field 'top.text' must be at most 2 bytes long");
  EXPECT_EQ(message_of(fields_.object("list")), "field 'top.list' must be an object");
  EXPECT_EQ(message_of(fields_.list("object", 9)), "field 'top.object' must be a list");
  EXPECT_EQ(message_of(fields_.list("list", 1)), "field 'top.list' must be a list of at most 1 items");
  EXPECT_EQ(message_of(fields_.required_hash("text")), "field 'top.text' must be a hash of 64 hex digits");
}

TEST_F(JsonFieldsTest, NamesFieldsByTheirPath) {
  const auto inner = fields_.required_object("object").value();
  EXPECT_EQ(message_of(inner.required_text("inner")), "field 'top.object.inner' must be a string");
  EXPECT_EQ(message_of(JsonFields::of(object_["list"], "items[3]")), "field 'items[3]' must be an object");
  EXPECT_EQ(JsonFields::of(object_["object"], "items[3]").value().path("x"), "items[3].x");
}

}  // namespace
}  // namespace celslm
