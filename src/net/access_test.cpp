// Who may use a server: by certificate, by key, and how those are refused who may not.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <latch>
#include <nlohmann/json.hpp>
#include <thread>

#include "net/access/client_header.h"
#include "net/access/key_ring.h"
#include "net/certificates.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "net/http_stream.h"
#include "tests/support/eventually.h"
#include "tests/support/manual_clock.h"
#include "tests/support/readable_log.h"
#include "tests/support/temporary_folder.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::HasSubstr;
using testing_support::ManualClock;
using testing_support::ReadableLog;
using testing_support::TemporaryFolder;

constexpr const char* kPack = "/v1/packs/c/m/f16/header";
constexpr const char* kAlice = "alices-secret-key-0001";
constexpr const char* kBob = "bobs-own-secret-key-02";

class AccessTest : public testing::Test {
 protected:
  AccessTest() : authority_(*make_authority("ours", 24h)) {
    folder_.write("authority.pem", authority_.certificate);
    issue("server", authority_, 1h);
    issue("edge-1", authority_, 1h);
    options_.tls_certificate_file = (folder_ / "server.pem").string();
    options_.tls_key_file = (folder_ / "server.key").string();
  }

  void issue(const std::string& name, const CertificatePair& authority, std::chrono::seconds valid) {
    const auto pair = make_node_certificate(authority, {.name = name, .addresses = {"127.0.0.1"}}, valid);
    ASSERT_TRUE(pair) << pair.error().message;
    folder_.write(name + ".pem", pair->certificate);
    folder_.write(name + ".key", pair->key);
  }

  void ask_for_certificates() { options_.client_authority_file = (folder_ / "authority.pem").string(); }
  void take_keys(const json& keys) {
    folder_.write("keys.json", json{{"keys", keys}}.dump());
    auto ring = KeyRing::open(folder_ / "keys.json", clock_);
    ASSERT_TRUE(ring) << ring.error().message;
    options_.keys = *std::move(ring);
  }

  void start() {
    auto server = HttpServer::create(options_, log_.log());
    ASSERT_TRUE(server) << server.error().message;
    server_ = *std::move(server);
    const auto who = [](const HttpRequest& r) {
      return HttpResponse{.body = json{{"key", r.caller.key},
                                       {"certificate", r.caller.certificate},
                                       {"tenant", r.caller.tenant},
                                       {"all", r.caller.all_tenants},
                                       {"operator", r.caller.is_operator},
                                       {"policy", r.caller.widest_policy}}
                                      .dump()};
    };
    server_->route("GET", "/who", who);
    server_->route("GET", "/v1/packs/:context/:model/:codec/header", who);
    server_->route("GET", "/client", [](const HttpRequest& r) { return HttpResponse{.body = r.client}; });
    server_->route("GET", "/health", [](const HttpRequest&) { return HttpResponse{.body = "fine"}; });
    server_->route("GET", "/wait", [this](const HttpRequest&) {
      return HttpResponse{.deferred = [this](std::shared_ptr<HttpReply> reply) {
        replies_.push_back(std::move(reply));
        ++waiting_;
      }};
    });
    ASSERT_TRUE(server_->start());
  }

  struct Answer {
    int status = 0;  // 0: none
    std::string text;
    std::string retry_after;
    json body() const { return json::parse(text, nullptr, false); }
  };
  Answer get(const std::string& path, const std::string& token = "", const std::string& certificate = "",
             std::map<std::string, std::string> headers = {}) {
    HttpClientOptions client{
        .base_url = server_->url(), .bearer_token = token, .ca_file = (folder_ / "authority.pem").string()};
    if (!certificate.empty()) {
      client.certificate_file = (folder_ / (certificate + ".pem")).string();
      client.key_file = (folder_ / (certificate + ".key")).string();
    }
    const auto answer = (*make_http_client(client))->call({.path = path, .headers = std::move(headers)});
    if (!answer) return {.text = answer.error().message};
    const auto retry = answer->headers.find("retry-after");
    return {.status = answer->status,
            .text = std::string(as_text(answer->body)),
            .retry_after = retry == answer->headers.end() ? "" : retry->second};
  }

  const TemporaryFolder folder_;
  const CertificatePair authority_;
  ManualClock clock_;
  ReadableLog log_;
  HttpServerOptions options_;
  std::vector<std::shared_ptr<HttpReply>> replies_;
  std::atomic<int> waiting_{0};
  std::unique_ptr<HttpServer> server_;
};

TEST_F(AccessTest, WithoutKeysAndCertificatesEverybodyMayDoEverything) {
  start();
  EXPECT_EQ(get("/who").body()["all"], true);
  EXPECT_EQ(get("/who").body()["operator"], true);
  EXPECT_EQ(get(kPack).status, 200);
}

TEST_F(AccessTest, ANodeIsKnownByItsCertificate) {
  ask_for_certificates();
  start();
  const Answer answer = get(kPack, "", "edge-1");
  ASSERT_EQ(answer.status, 200) << answer.text;
  EXPECT_EQ(answer.body()["certificate"], "edge-1");
  EXPECT_EQ(answer.body()["all"], true);
  EXPECT_EQ(get("/who", "", "edge-1").status, 200);
}

TEST_F(AccessTest, WithoutACertificateThereAreNoPacks) {
  ask_for_certificates();
  take_keys(json::array({{{"name", "alice"}, {"key", kAlice}}}));
  start();
  EXPECT_EQ(get(kPack).status, 401);
  EXPECT_EQ(get(kPack, kAlice).status, 403);
  EXPECT_THAT(get("/v1/%70acks/c/m/f16/header", kAlice).status, 403) << "an escape in the path is no way around";
  EXPECT_EQ(get("/who", kAlice).status, 200) << "other paths take keys";
  EXPECT_EQ(get("/health").status, 200);
  EXPECT_EQ(log_.count("no client certificate"), 1U) << log_.text();
}

TEST_F(AccessTest, WithoutKeysACertificateIsAskedForEverywhere) {
  ask_for_certificates();
  start();
  EXPECT_EQ(get("/who").status, 403);
  EXPECT_EQ(get("/nowhere").status, 403) << "paths cannot be probed";
  EXPECT_EQ(get("/health").status, 200);
}

TEST_F(AccessTest, AnExpiredCertificateIsRefusedAndLoggedOnce) {
  ask_for_certificates();
  issue("late", authority_, -60s);
  start();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(get("/health", "", "late").status, 0) << "not even what everybody may read";
  EXPECT_EQ(log_.count("client certificate: certificate has expired"), 1U) << log_.text();
}

TEST_F(AccessTest, ACertificateOfAnotherAuthorityIsRefusedAndLoggedOnce) {
  ask_for_certificates();
  issue("stranger", *make_authority("ours", 24h), 1h);  // of the same name
  start();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(get("/who", "", "stranger").status, 0);
  EXPECT_EQ(log_.count("client certificate: "), 1U) << log_.text();
}

TEST_F(AccessTest, AWrongTokenIsRefusedWithAGoodCertificate) {
  ask_for_certificates();
  take_keys(json::array({{{"name", "alice"}, {"key", kAlice}}}));
  start();
  EXPECT_EQ(get("/who", "not-a-key-of-anybody", "edge-1").status, 401);
}

TEST_F(AccessTest, AKeyTellsWhoAsksAndWhatItMay) {
  take_keys({{{"name", "alice"}, {"key", kAlice}, {"tenant", "acme"}, {"policy", "fleet"}},
             {{"name", "bob"}, {"key_hash", hash_of(kBob).hex()}, {"operator", true}}});
  options_.bearer_token = "the-servers-own";
  start();
  EXPECT_EQ(get("/who", kAlice).body(), (json{{"key", "alice"},
                                              {"certificate", ""},
                                              {"tenant", "acme"},
                                              {"all", false},
                                              {"operator", false},
                                              {"policy", "fleet"}}));
  EXPECT_EQ(get("/who", kBob).body()["key"], "bob");
  EXPECT_EQ(get("/who", kBob).body()["operator"], true);
  EXPECT_EQ(get("/who", "the-servers-own").body()["all"], true);
  EXPECT_EQ(get("/who").status, 401);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(get("/who", "bobs-own-secret-key-0").status, 401);
  EXPECT_EQ(log_.count("a wrong bearer token"), 1U) << log_.text();
  EXPECT_THAT(log_.text(), testing::Not(HasSubstr("bobs-own")));
}

TEST_F(AccessTest, OnlyANodeActsForATenant) {
  ask_for_certificates();
  take_keys(json::array({{{"name", "alice"}, {"key", kAlice}, {"tenant", "acme"}}}));
  start();
  const std::map<std::string, std::string> other{{kTenantHeader, "other"}};
  EXPECT_EQ(get("/who", "", "edge-1", other).body()["tenant"], "other");
  EXPECT_EQ(get("/who", "", "edge-1", other).body()["all"], false);
  EXPECT_EQ(get("/who", kAlice, "", other).body()["tenant"], "acme");
  EXPECT_EQ(get("/who", kAlice, "edge-1", other).body()["tenant"], "acme") << "its key says for whom it asks";
}

TEST_F(AccessTest, WhoPassesRequestsOnTellsItsClientsApart) {
  ask_for_certificates();
  take_keys(json::array({{{"name", "alice"}, {"key", kAlice}}}));
  start();
  const std::map<std::string, std::string> one{{kClientHeader, "c1"}};
  EXPECT_EQ(get("/client", "", "edge-1").text, "certificate edge-1");
  EXPECT_EQ(get("/client", "", "edge-1", one).text, "certificate edge-1 for c1");
  EXPECT_EQ(get("/client", "", "edge-1", {{kClientHeader, "c 1"}}).text, "certificate edge-1");
  EXPECT_EQ(get("/client", kAlice, "", one).text, "key " + hash_of(kAlice).hex() + " for c1");
}

TEST_F(AccessTest, AKeyThatHasUsedItsRequestsWaits) {
  take_keys({{{"name", "alice"}, {"key", kAlice}, {"requests_per_minute", 2}}, {{"name", "bob"}, {"key", kBob}}});
  start();
  EXPECT_EQ(get("/who", kAlice).status, 200);
  EXPECT_EQ(get("/who", kAlice).status, 200);
  const Answer refused = get("/who", kAlice);
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(refused.retry_after, "30");
  EXPECT_THAT(refused.text, HasSubstr("'alice' may have 2 requests per minute"));
  EXPECT_EQ(get("/who", kBob).status, 200) << "others are not concerned";
  clock_.advance(30s);
  EXPECT_EQ(get("/who", kAlice).status, 200);
}

TEST_F(AccessTest, RequestsAtTheSameTimeCountUntilTheirAnswers) {
  take_keys(json::array({{{"name", "alice"}, {"key", kAlice}, {"concurrency", 1}}}));
  start();
  std::jthread first([&] { EXPECT_EQ(get("/wait", kAlice).status, 200); });
  ASSERT_TRUE(testing_support::eventually([&] { return waiting_ == 1; }));
  EXPECT_EQ(get("/who", kAlice).status, 429);
  replies_.front()->send({.body = "done"});
  first.join();
  EXPECT_TRUE(testing_support::eventually([&] { return get("/who", kAlice).status == 200; }));
}

TEST_F(AccessTest, ACertificateIsAskedForOverTlsOnly) {
  HttpServerOptions plain{.client_authority_file = (folder_ / "authority.pem").string()};
  EXPECT_EQ(HttpServer::create(plain, null_log()).error().kind, ErrorKind::kInvalid);
  options_.client_authority_file = (folder_ / "server.key").string();
  const auto server = HttpServer::create(options_, null_log());
  ASSERT_FALSE(server);
  EXPECT_THAT(server.error().message, HasSubstr("server.key"));
}

}  // namespace
}  // namespace celslm
