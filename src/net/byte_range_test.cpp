#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "net/http_server.h"
#include "net/router.h"

namespace celslm {
namespace {

constexpr std::uint64_t kSize = 100;

std::string text(const Result<std::optional<ByteRange>>& range) {
  if (!range) return "refused";
  if (!*range) return "none";
  return fmt::format("[{},{})", (*range)->first, (*range)->end);
}

TEST(ByteRangeTest, ReadsTheFormsOfRfc9110) {
  EXPECT_EQ(text(parse_range("bytes=0-0", kSize)), "[0,1)");
  EXPECT_EQ(text(parse_range("bytes=10-19", kSize)), "[10,20)");
  EXPECT_EQ(text(parse_range("bytes=10-", kSize)), "[10,100)");
  EXPECT_EQ(text(parse_range("bytes=-5", kSize)), "[95,100)");
  EXPECT_EQ(text(parse_range(" bytes=0-99 ", kSize)), "[0,100)");
  EXPECT_EQ(text(parse_range("", kSize)), "none");
}

TEST(ByteRangeTest, IsClampedToTheBody) {
  EXPECT_EQ(text(parse_range("bytes=90-1000", kSize)), "[90,100)");
  EXPECT_EQ(text(parse_range("bytes=-1000", kSize)), "[0,100)");
  EXPECT_EQ(text(parse_range("bytes=0-18446744073709551615", kSize)), "[0,100)");
}

TEST(ByteRangeTest, RejectsRangesOutsideTheBody) {
  EXPECT_EQ(text(parse_range("bytes=100-", kSize)), "refused");
  EXPECT_EQ(text(parse_range("bytes=100-200", kSize)), "refused");
  EXPECT_EQ(text(parse_range("bytes=-0", kSize)), "refused");
  EXPECT_EQ(text(parse_range("bytes=0-0", 0)), "refused");
  EXPECT_EQ(text(parse_range("bytes=-1", 0)), "refused");
}

TEST(ByteRangeTest, RejectsMalformedRanges) {
  for (const char* header :
       {"bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=1", "bytes=5-4", "bytes=+1-2", "bytes=1-+2", "bytes=--5",
        "bytes=1-2-3", "bytes=0x1-2", "bytes= 1 - 2", "BYTES 0-1", "bytes=18446744073709551616-"}) {
    EXPECT_EQ(text(parse_range(header, kSize)), "refused") << header;
  }
}

TEST(ByteRangeTest, IgnoresOtherUnitsAndTheirCase) {
  for (const char* header : {"items=0-1", "seconds=1-2", "x=", "=0-1"})
    EXPECT_EQ(text(parse_range(header, kSize)), "none") << header;
  EXPECT_EQ(text(parse_range("Bytes=0-1", kSize)), "[0,2)");
}

TEST(ByteRangeTest, RefusesSeveralRanges) {
  const auto range = parse_range("bytes=0-1,5-6", kSize);
  ASSERT_FALSE(range);
  EXPECT_EQ(range.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(range.error().message, testing::HasSubstr("one at a time"));
}

TEST(RouterTest, PrefersTheRouteAddedFirst) {
  Router router;
  const auto handler = [](const HttpRequest&) { return HttpResponse{}; };
  router.add("GET", "/packs/all", handler);
  router.add("GET", "/packs/:id", handler);
  router.add("PUT", "/packs/:id", handler);
  EXPECT_TRUE(router.find("GET", "/packs/all").parameters.empty());
  EXPECT_EQ(router.find("GET", "/packs/a1").parameters.at("id"), "a1");
  EXPECT_EQ(router.find("HEAD", "/packs/a1").status, 200);
  EXPECT_EQ(router.find("POST", "/packs/a1").status, 405);
  EXPECT_EQ(router.find("POST", "/packs/a1").allow, "GET, PUT");
  EXPECT_EQ(router.find("GET", "/packs/a1/").status, 404);
  EXPECT_EQ(router.find("GET", "").status, 400);
}

TEST(QueryTest, DecodesNamesAndValues) {
  const auto query = parse_query("a=1&b=x%20y+z&c&=d&a=2&&e==");
  ASSERT_TRUE(query);
  const std::map<std::string, std::string> expected{{"a", "1"}, {"b", "x y z"}, {"c", ""}, {"", "d"}, {"e", "="}};
  EXPECT_EQ(*query, expected);
}

TEST(QueryTest, RefusesBrokenEscapes) {
  for (const char* query : {"a=%", "a=%4", "%zz=1", "a=%0a", "a=%00"}) EXPECT_FALSE(parse_query(query)) << query;
}

}  // namespace
}  // namespace celslm
