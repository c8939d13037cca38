// An edge whose cloud holds its list until something changes: it learns of that without asking again and again.
#include <chrono>

#include "serve/edge/edge_test_support.h"
#include "tests/support/eventually.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;

class HeldListEdgeTest : public EdgeFixture {
 protected:
  HeldListEdgeTest() { hold_ = 180s; }

  // Lets virtual time pass in small steps until the edge's list is as wanted. Real time only limits a test that fails.
  bool comes_to_list(EdgeService& edge, const std::string& text, bool listed) {
    return eventually([&] {
      if (lists(edge, text) == listed) return true;
      clock_.advance(10ms);
      return false;
    });
  }
  static bool lists(EdgeService& edge, const std::string& text) {
    LocalServer server;
    edge.add_routes(server);
    const json all = json::parse(server.handle({.method = "GET", .path = "/v1/contexts"}).body)["contexts"];
    return std::ranges::any_of(all, [&](const json& known) { return known["id"] == context_handle(text).hex(); });
  }
  int asked() const {
    int n = 0;
    const std::string sent = client_->sent();
    for (std::size_t at = 0; (at = sent.find("GET /v1/contexts?", at)) != std::string::npos; ++at) ++n;
    return n;
  }

  // For how many seconds the cloud was asked to hold its answers.
  std::vector<int> waits() const {
    std::vector<int> out;
    const std::string sent = client_->sent();
    for (std::size_t at = 0; (at = sent.find("&wait=", at)) != std::string::npos; ++at)
      out.push_back(std::stoi(sent.substr(at + 6, 9)));
    return out;
  }
};

TEST_F(HeldListEdgeTest, ChangesComeWithoutAskingForThem) {
  const auto e = edge();
  for (const char salt : {'a', 'b', 'c'}) {
    put(long_text(salt));
    EXPECT_TRUE(comes_to_list(*e, long_text(salt), true)) << salt;
  }
  const HttpResponse removed =
      server_->handle({.method = "DELETE", .path = "/v1/contexts/" + context_handle(long_text('b')).hex()});
  ASSERT_EQ(removed.status, 204);
  EXPECT_TRUE(comes_to_list(*e, long_text('b'), false));
  EXPECT_TRUE(lists(*e, long_text('a')));
  EXPECT_LT(asked(), 12);
}

TEST_F(HeldListEdgeTest, ARemovedContextIsDroppedFromMemorySoon) {
  put(long_text());
  const auto e = edge();
  ASSERT_TRUE(comes_to_list(*e, long_text(), true));
  EXPECT_EQ(sources(ask(*e, long_text())), all("proxy cloud"));
  server_->handle({.method = "DELETE", .path = "/v1/contexts/" + context_handle(long_text()).hex()});
  ASSERT_TRUE(comes_to_list(*e, long_text(), false));
  // First it leaves the list, then memory: a request between the two may still read it there.
  EXPECT_TRUE(eventually([&] { return ask(*e, long_text())["x_celslm"]["context"].is_null(); }));
}

// A proxy between them, say, that gives up after a minute.
TEST_F(HeldListEdgeTest, AWaitThatSomethingBetweenEndsIsMadeShorter) {
  std::atomic<bool> ended = false;
  const auto e = edge([&](const HttpCall& call, const auto& go_on) -> Result<HttpAnswer> {
    if (!call.path.contains("wait=") || ended.exchange(true)) return go_on();
    clock_.advance(60s);
    return fail(ErrorKind::kUnavailable, "answered 504");
  });
  ASSERT_TRUE(eventually([&] { return waits().size() >= 2; }));
  EXPECT_GE(waits()[0], 126);
  EXPECT_LE(waits()[0], 180);
  EXPECT_LE(waits()[1], 30);
}

TEST_F(HeldListEdgeTest, AnEdgeThatEndsDoesNotWaitForItsCloud) {
  const auto begin = std::chrono::steady_clock::now();
  {
    const auto e = edge();
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 30s);  // the cloud would hold its answer for minutes of virtual time
}

}  // namespace
}  // namespace celslm
