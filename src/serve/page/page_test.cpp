#include "serve/page/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

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

// Paths that a file refers to: src="/x", href="/x", from "./x".
std::vector<std::string> references_of(std::string_view file) {
  std::vector<std::string> out;
  for (const std::string_view before : {"src=\"", "href=\"", "from \""}) {
    for (std::size_t at = file.find(before); at != std::string_view::npos; at = file.find(before, at + 1)) {
      std::string_view path = file.substr(at + before.size());
      path = path.substr(0, path.find('"'));
      if (path.starts_with("./")) path.remove_prefix(1);
      if (path.starts_with('/')) out.emplace_back(path);
    }
  }
  return out;
}

TEST(PageTest, LoadsOnlyWhatItsOwnServerHas) {
  for (const PageOf of : {PageOf::kEdge, PageOf::kCloud}) {
    const auto paths = page_paths(of);
    EXPECT_THAT(paths, Contains("/"));
    EXPECT_THAT(references_of(get(of, "/").body), Not(testing::IsEmpty()));
    for (const std::string& path : paths) {
      const HttpResponse file = get(of, path);
      ASSERT_EQ(file.status, 200) << path;
      for (const std::string& reference : references_of(file.body)) EXPECT_THAT(paths, Contains(reference)) << path;
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
