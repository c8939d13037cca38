// Against servers that a test scripts; the real one is in tests/e2e/fleet_test.py.
#include "fleet/store/valkey_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "tests/support/raw_socket.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;
using testing_support::RawPeer;
using testing_support::RawServer;

class ValkeyStoreTest : public testing::Test {
 protected:
  ValkeyStoreTest() { std::signal(SIGPIPE, SIG_IGN); }  // as the program does

  static ValkeyStore store(const RawServer& server, std::chrono::milliseconds limit = 10s) {
    return ValkeyStore({.host = "127.0.0.1", .port = server.port()}, {.connect = limit, .call = limit});
  }
  // A server that answers whatever comes with this, and hangs until the other side closes.
  static RawServer::Script always(std::string reply) {
    return [reply = std::move(reply)](RawPeer& peer, int) {
      while (!peer.read_some().empty()) {
        if (!peer.send(reply)) return;
      }
    };
  }
};

TEST_F(ValkeyStoreTest, ReadsAndWrites) {
  std::string received;
  RawServer server([&](RawPeer& peer, int) {
    received = peer.read_until("3000\r\n");
    peer.send("+OK\r\n");
    received += peer.read_until("8\r\n");
    peer.send("$5\r\nvalue\r\n$0\r\n\r\n");
    (void)peer.read_to_end();
  });
  ValkeyStore s = store(server);
  ASSERT_TRUE(s.set("key", "value", 3s));
  const std::vector<std::string> keys{"key", "none"};
  const auto values = s.get_all(keys, 8);
  ASSERT_TRUE(values) << values.error().message;
  EXPECT_EQ(values->at(0), "value");
  EXPECT_EQ(values->at(1), std::nullopt);
  EXPECT_THAT(received, HasSubstr("SET"));
  EXPECT_THAT(received, HasSubstr("PX"));
}

TEST_F(ValkeyStoreTest, ALeaseOfAnotherIsNotTaken) {
  RawServer server(always(":0\r\n"));
  ValkeyStore s = store(server);
  const auto held = s.hold("lease", "me", 1s);
  ASSERT_TRUE(held) << held.error().message;
  EXPECT_FALSE(*held);
}

TEST_F(ValkeyStoreTest, PasswordAndDatabaseComeFirst) {
  std::string received;
  RawServer server([&](RawPeer& peer, int) {
    received = peer.read_until("7\r\n");
    peer.send("+OK\r\n+OK\r\n");
    (void)peer.read_some();
    peer.send(":1\r\n");
  });
  ValkeyStore s({.host = "127.0.0.1", .port = server.port(), .database = 7, .password = "sesame"});
  ASSERT_TRUE(s.extend("key", 1s));
  EXPECT_THAT(received, HasSubstr("AUTH\r\n$6\r\nsesame"));
  EXPECT_THAT(received, HasSubstr("SELECT"));
}

TEST_F(ValkeyStoreTest, WhatTheServerRefusesHasItsKind) {
  const auto kind_of = [](const char* reply) {
    RawServer server(always(reply));
    return store(server).set("key", "value", 1s).error().kind;
  };
  EXPECT_EQ(kind_of("-NOAUTH Authentication required.\r\n"), ErrorKind::kUnauthorized);
  EXPECT_EQ(kind_of("-OOM command not allowed\r\n"), ErrorKind::kOverloaded);
  EXPECT_EQ(kind_of("-LOADING Valkey is loading\r\n"), ErrorKind::kUnavailable);
  EXPECT_EQ(kind_of("-READONLY You can't write\r\n"), ErrorKind::kUnavailable);
}

TEST_F(ValkeyStoreTest, AKeyOfAnotherTypeIsLikeNone) {
  RawServer server(always("-WRONGTYPE Operation against a key\r\n$1\r\nx\r\n"));
  const std::vector<std::string> keys{"list", "key"};
  const auto values = store(server).get_all(keys, 10);
  ASSERT_TRUE(values) << values.error().message;
  EXPECT_EQ(values->at(0), std::nullopt);
  EXPECT_EQ(values->at(1), "x");
}

TEST_F(ValkeyStoreTest, WhatIsNoValkeyIsRefused) {
  RawServer server(always("HTTP/1.1 400 Bad Request\r\n\r\n"));
  const auto answer = store(server).sample("nodes", 10);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::kInvalid) << answer.error().message;
}

TEST_F(ValkeyStoreTest, AReplyWithoutEndIsCutOffAtItsLimit) {
  std::size_t sent = 0;
  RawServer server([&](RawPeer& peer, int) {
    (void)peer.read_some();
    peer.send("*1\r\n$1000000000\r\n");
    const std::string piece(1U << 16, 'x');
    while (sent < (1U << 30) && peer.send(piece)) sent += piece.size();
  });
  const auto answer = store(server).sample("nodes", 10);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::kInvalid) << answer.error().message;
}

TEST_F(ValkeyStoreTest, AListOfTooManyElementsIsRefusedBeforeMemoryIsTaken) {
  RawServer server(always("*100000000\r\n"));
  const auto answer = store(server).sample("nodes", 10);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::kInvalid) << answer.error().message;
}

TEST_F(ValkeyStoreTest, AServerThatHangsCostsTheLimitAndNoMore) {
  RawServer server([](RawPeer& peer, int) { (void)peer.read_to_end(); });
  const auto answer = store(server, 50ms).sample("nodes", 10);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::kUnavailable) << answer.error().message;
}

TEST_F(ValkeyStoreTest, AConnectionThatTheServerClosedIsMadeAgain) {
  RawServer server([](RawPeer& peer, int) {
    (void)peer.read_some();
    peer.send(":1\r\n");
  });
  ValkeyStore s = store(server);
  for (int i = 0; i < 3; ++i) {
    const auto answer = s.extend("key", 1s);
    ASSERT_TRUE(answer) << answer.error().message;
  }
  EXPECT_EQ(server.connections(), 3);
}

TEST_F(ValkeyStoreTest, WithoutAServerItIsUnavailable) {
  int port = 0;
  {
    port = RawServer([](RawPeer&, int) {}).port();
  }
  const auto answer = ValkeyStore({.host = "127.0.0.1", .port = port}).sample("nodes", 10);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::kUnavailable);
  EXPECT_THAT(answer.error().message, HasSubstr("valkey://127.0.0.1"));
}

TEST_F(ValkeyStoreTest, SentinelsNameTheServer) {
  RawServer server(always(":1\r\n"));
  const std::string port = std::to_string(server.port());
  RawServer sentinel([&](RawPeer& peer, int) {
    EXPECT_THAT(peer.read_until("main\r\n"), HasSubstr("GET-MASTER-ADDR-BY-NAME"));
    peer.send("*2\r\n$9\r\n127.0.0.1\r\n$" + std::to_string(port.size()) + "\r\n" + port + "\r\n");
    (void)peer.read_some();
  });
  int dead = 0;
  {
    dead = RawServer([](RawPeer&, int) {}).port();
  }
  ValkeyStore s({.sentinels = {{"127.0.0.1", dead}, {"127.0.0.1", sentinel.port()}}, .name = "main"});
  const auto answer = s.extend("key", 1s);
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_TRUE(*answer);
}

TEST_F(ValkeyStoreTest, AServerThatBecameAReplicaIsLookedForAgain) {
  RawServer server([](RawPeer& peer, int number) {
    (void)peer.read_some();
    peer.send(number == 0 ? "-READONLY You can't write against a read only replica.\r\n" : ":1\r\n");
    (void)peer.read_some();
  });
  ValkeyStore s = store(server);
  EXPECT_EQ(s.extend("key", 1s).error().kind, ErrorKind::kUnavailable);
  EXPECT_TRUE(s.extend("key", 1s));
  EXPECT_EQ(server.connections(), 2);
}

TEST_F(ValkeyStoreTest, ASentinelThatKnowsNoSuchServerIsAnError) {
  RawServer sentinel(always("*-1\r\n"));
  ValkeyStore s({.sentinels = {{"127.0.0.1", sentinel.port()}}, .name = "main"});
  const auto answer = s.extend("key", 1s);
  ASSERT_FALSE(answer);
  EXPECT_THAT(answer.error().message, HasSubstr("'main'"));
}

TEST(ValkeyAddress, MayNameSentinels) {
  const auto address = parse_valkey_url("valkeys-sentinel://a:1,[::1]:2,c/main/3");
  ASSERT_TRUE(address) << address.error().message;
  EXPECT_EQ(address->sentinels, (std::vector<HostAndPort>{{"a", 1}, {"::1", 2}, {"c", 26379}}));
  EXPECT_EQ(address->name, "main");
  EXPECT_EQ(address->database, 3);
  EXPECT_TRUE(address->tls);
  EXPECT_FALSE(parse_valkey_url("valkey-sentinel://a:1"));
  EXPECT_FALSE(parse_valkey_url("valkey-sentinel://a:1,/main"));
  std::string many = "valkey-sentinel://a";
  for (std::size_t i = 1; i < kMaxSentinels; ++i) many += ",a";
  EXPECT_TRUE(parse_valkey_url(many + "/main"));
  EXPECT_FALSE(parse_valkey_url(many + ",a/main"));
}

TEST(ValkeyAddress, IsReadFromAUrl) {
  const auto plain = parse_valkey_url("valkey://cache.example:6380/3");
  ASSERT_TRUE(plain) << plain.error().message;
  EXPECT_EQ(plain->host, "cache.example");
  EXPECT_EQ(plain->port, 6380);
  EXPECT_EQ(plain->database, 3);
  EXPECT_FALSE(plain->tls);
  const auto v6 = parse_valkey_url("rediss://[2001:db8::1]");
  ASSERT_TRUE(v6) << v6.error().message;
  EXPECT_EQ(v6->host, "2001:db8::1");
  EXPECT_EQ(v6->port, 6379);
  EXPECT_TRUE(v6->tls);
  EXPECT_EQ(v6->text(), "valkeys://[2001:db8::1]:6379/0");
  EXPECT_TRUE(parse_valkey_url("valkey://h/"));
}

TEST(ValkeyAddress, IsRefusedWithoutShowingWhatMayBeSecret) {
  for (const char* url : {"", "h:6379", "http://h", "valkey://", "valkey://h:0", "valkey://h:99999", "valkey://h:6379/x",
                          "valkey://h:6379/-1", "valkey://[::1", "valkey://a b", "valkey://h:", "valkey://:secret@h"}) {
    const auto address = parse_valkey_url(url);
    ASSERT_FALSE(address) << url;
    EXPECT_EQ(address.error().kind, ErrorKind::kInvalid);
    EXPECT_THAT(address.error().message, Not(HasSubstr("secret")));
  }
}

}  // namespace
}  // namespace celslm
