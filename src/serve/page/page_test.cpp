#include "serve/page/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "tests/support/local_net.h"

namespace celslm {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;
using testing_support::LocalServer;

HttpResponse get(PageOf of, const std::string& path) {
  LocalServer server;
  add_page(server, of);
  return server.handle({.method = "GET", .path = path});
}

TEST(PageTest, LoadsOnlyWhatItsOwnServerHas) {
  for (const PageOf of : {PageOf::kEdge, PageOf::kCloud}) {
    const auto paths = page_paths(of);
    EXPECT_THAT(paths, Contains("/"));
    for (const std::string& path : paths) {
      const HttpResponse file = get(of, path);
      ASSERT_EQ(file.status, 200) << path;
      const std::regex reference(R"re((?:src|href|from)[ =]"\.?(/[^"]*)")re");
      for (std::sregex_iterator it(file.body.begin(), file.body.end(), reference), end; it != end; ++it)
        EXPECT_THAT(paths, Contains((*it)[1].str())) << path;
    }
  }
}

TEST(PageTest, ForbidsScriptsAndStylesOfAnyOtherPlace) {
  const HttpResponse page = get(PageOf::kEdge, "/");
  EXPECT_EQ(page.content_type, "text/html; charset=utf-8");
  EXPECT_THAT(page.headers.at("Content-Security-Policy"), HasSubstr("default-src 'self'"));
  EXPECT_THAT(page.body, Not(HasSubstr("style=")));
  EXPECT_THAT(page.body, Not(HasSubstr("onclick=")));
}

TEST(PageTest, NeverTakesATextForHtml) {
  for (const PageFile& file : page_files()) {
    for (const char* dangerous : {"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("})
      EXPECT_THAT(std::string(file.content), Not(HasSubstr(dangerous))) << file.name;
  }
}

TEST(PageTest, GivesEachServerItsOwnPage) {
  EXPECT_THAT(get(PageOf::kEdge, "/").body, HasSubstr("celslm edge"));
  EXPECT_THAT(get(PageOf::kCloud, "/").body, HasSubstr("celslm cloud"));
  EXPECT_EQ(get(PageOf::kCloud, "/edge.js").status, 404);
}

}  // namespace
}  // namespace celslm
