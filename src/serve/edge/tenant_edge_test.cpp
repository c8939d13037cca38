// A context belongs to a tenant: others find nothing of it, at the edge and at its cloud.
#include "serve/edge/edge_test_support.h"

namespace celslm {
namespace {

using namespace testing_support;
using testing::HasSubstr;
using testing::Not;

class TenantEdgeTest : public EdgeFixture {
 protected:
  TenantEdgeTest() : edge_(edge()) { edge_->add_routes(clients_); }

  static Caller of(const std::string& tenant) {
    return {.key = "k", .tenant = tenant, .all_tenants = false, .is_operator = false};
  }

  HttpResponse as(const std::string& tenant, HttpRequest request) const {
    request.caller = of(tenant);
    request.client = "key of " + tenant;
    return blocking(clients_.handle(request), request);
  }
  ContextHandle put_as(const std::string& tenant, const std::string& text) const {
    const HttpResponse answer = as(tenant, {.method = "POST", .path = "/v1/contexts", .body = json{{"text", text}}.dump()});
    EXPECT_EQ(answer.status, 200) << answer.body;
    const json body = json::parse(answer.body);
    return *Hash256::from_hex(body.value("id", ""));
  }
  HttpResponse chat_as(const std::string& tenant, const json& body) const {
    return as(tenant, {.method = "POST", .path = "/v1/chat/completions", .body = body.dump()});
  }
  json extension_as(const std::string& tenant, const json& body) const {
    const HttpResponse answer = chat_as(tenant, body);
    EXPECT_EQ(answer.status, 200) << answer.body;
    return json::parse(answer.body)["x_celslm"];
  }
  static json named(const ContextHandle& handle) {
    json out = {{"messages", {{{"role", "user"}, {"content", "Where?"}}}}, {"max_tokens", 4}};
    out["x_celslm"]["context"] = handle.hex();
    return out;
  }
  static std::string without(std::string text, const ContextHandle& handle) {
    for (std::size_t at = text.find(handle.hex()); at != std::string::npos; at = text.find(handle.hex()))
      text.replace(at, 64, "HANDLE");
    return text;
  }

  LocalServer clients_{"local://edge"};
  const std::unique_ptr<EdgeService> edge_;
};

TEST_F(TenantEdgeTest, ItsContextIsUsedForItsRequests) {
  const ContextHandle handle = put_as("acme", long_text());
  EXPECT_EQ(handle, context_handle(long_text(), "acme"));
  EXPECT_NE(handle, context_handle(long_text()));
  EXPECT_EQ(extension_as("acme", request(long_text(), "Where?"))["context"], handle.hex());
  EXPECT_EQ(extension_as("acme", named(handle))["context"], handle.hex());
}

TEST_F(TenantEdgeTest, ForOthersTheSameTextIsNoHit) {
  put_as("acme", long_text());
  (void)extension_as("acme", request(long_text(), "Where?"));
  edge_->wait_until_loaded();
  for (const char* tenant : {"other", ""}) {
    const json answer = extension_as(tenant, request(long_text(), "Where?"));
    EXPECT_TRUE(answer["context"].is_null()) << tenant << ": " << answer;
    EXPECT_EQ(answer.value("matched_tokens", 0), 0) << answer;
  }
}

TEST_F(TenantEdgeTest, AWrongTenantGetsWhatAnUnknownHandleGets) {
  const ContextHandle handle = put_as("acme", long_text());
  const ContextHandle unknown = context_handle("never registered");
  clock_.advance(std::chrono::minutes(1));
  for (const char* tenant : {"other", ""}) {
    for (const HttpRequest& request :
         {HttpRequest{.method = "DELETE", .path = "/v1/contexts/" + handle.hex()},
          HttpRequest{.method = "POST", .path = "/v1/chat/completions", .body = named(handle).dump()}}) {
      HttpRequest nothing = request;
      for (std::string* part : {&nothing.path, &nothing.body}) {
        if (const std::size_t at = part->find(handle.hex()); at != std::string::npos) part->replace(at, 64, unknown.hex());
      }
      const HttpResponse wrong = as(tenant, request);
      const HttpResponse none = as(tenant, nothing);
      EXPECT_EQ(wrong.status, 404);
      EXPECT_EQ(wrong.status, none.status);
      EXPECT_EQ(without(wrong.body, handle), without(none.body, unknown));
      EXPECT_EQ(wrong.headers, none.headers);
    }
  }
  EXPECT_EQ(as("acme", {.method = "DELETE", .path = "/v1/contexts/" + handle.hex()}).status, 204);
}

TEST_F(TenantEdgeTest, ListsAndStatusShowATenantItsOwn) {
  const ContextHandle handle = put_as("acme", long_text());
  (void)extension_as("acme", request(long_text(), "Where?"));
  for (const char* path : {"/v1/contexts", "/v1/status"}) {
    EXPECT_THAT(as("acme", {.method = "GET", .path = path}).body, HasSubstr(handle.hex())) << path;
    EXPECT_THAT(as("other", {.method = "GET", .path = path}).body, Not(HasSubstr(handle.hex()))) << path;
    EXPECT_THAT(clients_.handle({.method = "GET", .path = path}).body, HasSubstr(handle.hex())) << path;
  }
  EXPECT_EQ(json::parse(as("other", {.method = "GET", .path = "/v1/status"}).body)["memory_bytes"], 0);
  EXPECT_EQ(as("acme", {.method = "GET", .path = "/metrics"}).status, 403) << "metrics count what all do";
  EXPECT_EQ(clients_.handle({.method = "GET", .path = "/metrics"}).status, 200);
}

TEST_F(TenantEdgeTest, TenantsWithTheSameTextHaveAPackEach) {
  put_as("acme", long_text());
  put_as("other", long_text());
  const json mine = extension_as("acme", request(long_text(), "Where?"));
  const json theirs = extension_as("other", request(long_text(), "Where?"));
  EXPECT_NE(mine["context"], theirs["context"]);
  EXPECT_NE(mine["context_id"], theirs["context_id"]);
  edge_->wait_until_loaded();
  EXPECT_EQ(store_->list().size(), 2U);
  for (const json& extension : {mine, theirs}) {
    for (const json& layer : extension["layers"]) EXPECT_EQ(layer["source"], "cloud");
  }
}

// Salted or not, the KV is the same.
TEST_F(TenantEdgeTest, TheAnswerIsTheSameAsForTheDefaultTenant) {
  put_as("acme", long_text());
  const HttpResponse answer = chat_as("acme", request(long_text(), "Where?"));
  EXPECT_EQ(said(json::parse(answer.body)), said(local_answer(long_text())));
}

TEST_F(TenantEdgeTest, ANeighbourIsServedATenantsPackOnlyIfItMaySeeIt) {
  const ContextHandle handle = put_as("acme", long_text());
  (void)extension_as("acme", request(long_text(), "Where?"));
  edge_->wait_until_loaded();
  const std::string path = pack_path(handle, model_->fingerprint().id(), "f16", "header");
  EXPECT_EQ(clients_.handle({.method = "GET", .path = path}).status, 200) << "a node speaks for all tenants";
  EXPECT_EQ(as("acme", {.method = "GET", .path = path}).status, 200);
  const HttpResponse wrong = as("other", {.method = "GET", .path = path});
  const ContextHandle unknown = context_handle("never registered");
  const HttpResponse none =
      as("other", {.method = "GET", .path = pack_path(unknown, model_->fingerprint().id(), "f16", "header")});
  EXPECT_EQ(wrong.status, 404);
  EXPECT_EQ(without(wrong.body, handle), without(none.body, unknown));
}

TEST_F(TenantEdgeTest, TextsOfTheEdgesOwnAreTheDefaultTenants) {
  const std::string own = long_text('o');
  const auto e = edge({}, {.contexts = {own}});
  LocalServer server;
  e->add_routes(server);
  HttpRequest ask{.method = "POST", .path = "/v1/chat/completions", .body = named(context_handle(own)).dump()};
  ask.caller = of("");
  EXPECT_EQ(blocking(server.handle(ask), ask).status, 200);
  ask.caller = of("acme");
  EXPECT_EQ(blocking(server.handle(ask), ask).status, 404);
  HttpRequest remove{.method = "DELETE", .path = "/v1/contexts/" + context_handle(own).hex()};
  remove.caller = of("acme");
  EXPECT_EQ(server.handle(remove).status, 404) << "not even that it is a text of the edge's own";
}

TEST_F(TenantEdgeTest, AtTheCloudAListShowsNothingOfOthersNotEvenThatItChanged) {
  put_as("acme", long_text());
  const auto list = [&](const std::string& tenant, std::map<std::string, std::string> parameters = {}) {
    return server_->handle(
        {.method = "GET", .path = "/v1/contexts", .parameters = std::move(parameters), .caller = of(tenant)});
  };
  const HttpResponse before = list("other");
  EXPECT_EQ(json::parse(before.body)["contexts"].size(), 0U);
  put_as("acme", long_text('b'));
  const HttpResponse after = list("other");
  EXPECT_EQ(after.body, before.body);
  EXPECT_EQ(after.headers, before.headers);
  const std::string revision = json::parse(before.body)["revision"];
  EXPECT_EQ(list("other", {{"since", revision}, {"wait", "300"}}).status, 304) << "at once: others' changes would show";
  EXPECT_EQ(json::parse(list("acme").body)["contexts"].size(), 2U);
  EXPECT_EQ(list("acme", {{"since", revision}}).status, 200);
}

TEST_F(TenantEdgeTest, AtTheCloudAWrongTenantGetsWhatAnUnknownHandleGets) {
  const ContextHandle handle = put_as("acme", long_text());
  const ContextHandle unknown = context_handle("never registered");
  const auto model = model_->fingerprint().id();
  for (const auto& [method, path_of] : std::vector<std::pair<std::string, std::function<std::string(const ContextHandle&)>>>{
           {"GET", [](const ContextHandle& h) { return "/v1/contexts/" + h.hex(); }},
           {"GET", [](const ContextHandle& h) { return "/v1/contexts/" + h.hex() + "/study"; }},
           {"DELETE", [](const ContextHandle& h) { return "/v1/contexts/" + h.hex(); }},
           {"GET", [&](const ContextHandle& h) { return pack_path(h, model, "f16", "header"); }},
           {"GET", [&](const ContextHandle& h) { return pack_path(h, model, "f16", "entries"); }},
           {"GET", [&](const ContextHandle& h) { return pack_path(h, model, "f16", "blocks"); }},
           {"GET", [&](const ContextHandle& h) { return pack_path(h, model, "f16", "pack"); }}}) {
    const HttpResponse wrong = server_->handle({.method = method, .path = path_of(handle), .caller = of("other")});
    const HttpResponse none = server_->handle({.method = method, .path = path_of(unknown), .caller = of("other")});
    EXPECT_EQ(wrong.status, 404) << method << " " << path_of(handle);
    EXPECT_EQ(without(wrong.body, handle), without(none.body, unknown));
  }
}

TEST_F(TenantEdgeTest, AContextIsStillItsTenantsAfterARestartOfTheCloud) {
  const ContextHandle handle = put_as("acme", long_text());
  const auto registry = ContextRegistry::open(folder_ / "cloud0" / "contexts", null_log());
  ASSERT_TRUE(registry);
  EXPECT_TRUE((*registry)->contains(handle, of("acme")));
  EXPECT_FALSE((*registry)->contains(handle, of("other")));
  EXPECT_FALSE((*registry)->contains(handle, of("")));
}

}  // namespace
}  // namespace celslm
