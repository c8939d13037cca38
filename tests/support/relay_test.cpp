#include "tests/support/relay.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <iterator>
#include <thread>

#include "tests/support/raw_socket.h"

namespace celslm::testing_support {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

// Echoes until the client ends its stream.
void echo(RawPeer& peer, int /*number*/) {
  while (true) {
    const std::string data = peer.read_some();
    if (data.empty() || !peer.send(data)) return;
  }
}

// Sends a megabyte as soon as anything arrives.
void megabyte(RawPeer& peer, int /*number*/) {
  peer.read_some();
  peer.send(std::string(1'000'000, 'x'));
}

std::unique_ptr<Relay> relay_to(const RawServer& server, RelayOptions options = {}) {
  options.to_port = server.port();
  auto relay = Relay::start(options);
  EXPECT_TRUE(relay) << relay.error().message;
  return relay ? *std::move(relay) : nullptr;
}

TEST(RelayTest, PassesBytesBothWaysAndTheEndsOfStreams) {
  RawServer server(echo);
  const auto relay = relay_to(server);
  RawPeer client = RawPeer::connect(relay->port());
  const std::string text(300'000, 'a');
  std::jthread sender([&] {
    client.send(text);
    client.end_sending();
  });
  EXPECT_EQ(client.read_to_end(), text);
  sender.join();
  EXPECT_EQ(relay->bytes_up(), text.size());
  EXPECT_EQ(relay->bytes_down(), text.size());
}

TEST(RelayTest, IsNeverFasterThanItsRateHoweverManyConnectionsShareIt) {
  RawServer server(megabyte);
  const auto relay = relay_to(server, {.rate_mbit = 80});  // 10 MB/s
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::jthread> clients;
  std::atomic<std::size_t> total{0};
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back([&] {
      RawPeer client = RawPeer::connect(relay->port());
      client.send("go");
      total += client.read_to_end().size();
    });
  }
  clients.clear();
  EXPECT_EQ(total, 3'000'000U);
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(290));
}

TEST(RelayTest, DelaysEachWay) {
  RawServer server(echo);
  const auto relay = relay_to(server, {.delay = std::chrono::milliseconds(30)});
  RawPeer client = RawPeer::connect(relay->port());
  const auto start = std::chrono::steady_clock::now();
  client.send("ping");
  EXPECT_EQ(client.read_some(), "ping");
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(60));
}

TEST(RelayTest, RecordsWhatClientsSendEvenInPiecesAndInterleaved) {
  const auto file = std::filesystem::path(testing::TempDir()) / fmt::format("celslm-relay-{}", ::getpid());
  RawServer server(echo);
  {
    const auto relay = relay_to(server, {.record_file = file});
    RawPeer a = RawPeer::connect(relay->port());
    RawPeer b = RawPeer::connect(relay->port());
    for (const std::string_view piece : {"mar", "ked-pro", "mpt"}) {
      a.send(piece);
      EXPECT_EQ(a.read_some(), piece);
      b.send("other");
      EXPECT_EQ(b.read_some(), "other");
    }
    EXPECT_THAT(relay->recorded(), HasSubstr("marked-prompt"));
  }
  std::ifstream in(file, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  EXPECT_THAT(text, HasSubstr("marked-prompt"));
  EXPECT_THAT(text, HasSubstr("otherotherother"));
  std::filesystem::remove(file);
}

TEST(RelayTest, CutResetsConnectionsAndRefusesNewOnesUntilResumed) {
  RawServer server(echo);
  const auto relay = relay_to(server);
  RawPeer client = RawPeer::connect(relay->port());
  client.send("x");
  EXPECT_EQ(client.read_some(), "x");
  relay->cut();
  EXPECT_THAT(client.read_some(), IsEmpty());
  EXPECT_TRUE(client.was_reset());
  RawPeer late = RawPeer::connect(relay->port());
  late.send("x");
  EXPECT_THAT(late.read_some(), IsEmpty());
  relay->resume();
  RawPeer again = RawPeer::connect(relay->port());
  again.send("y");
  EXPECT_EQ(again.read_some(), "y");
}

TEST(RelayTest, DropsTheLinkInTheMiddleOfAnAnswer) {
  RawServer server(megabyte);
  const auto relay = relay_to(server);
  relay->drop_after(500'000);
  RawPeer client = RawPeer::connect(relay->port());
  client.send("go");
  EXPECT_LT(client.read_to_end().size(), 500'000U);
  EXPECT_TRUE(client.was_reset());
}

// Performs many round trips over another link, so that the one under test has had time to forward data.
void let_another_link_work() {
  RawServer server(echo);
  const auto other = relay_to(server);
  RawPeer client = RawPeer::connect(other->port());
  for (int i = 0; i < 100; ++i) {
    client.send("x");
    EXPECT_EQ(client.read_some(), "x");
  }
}

TEST(RelayTest, MovesNothingWhilePausedAndEverythingAfterwards) {
  RawServer server(echo);
  const auto relay = relay_to(server);
  RawPeer client = RawPeer::connect(relay->port());
  client.send("a");
  EXPECT_EQ(client.read_some(), "a");
  relay->pause();
  client.send("b");
  let_another_link_work();
  EXPECT_EQ(relay->bytes_up(), 1U);
  relay->resume();
  EXPECT_EQ(client.read_some(), "b");
}

TEST(RelayTest, StallsInTheMiddleOfAnAnswerWithoutAnError) {
  RawServer server(megabyte);
  const auto relay = relay_to(server, {.stall_after_bytes = 500'000});
  RawPeer client = RawPeer::connect(relay->port());
  client.send("go");
  std::string got = client.read_some();
  let_another_link_work();
  EXPECT_LE(relay->bytes_down(), 600'000U);
  relay->resume();
  got += client.read_to_end();
  EXPECT_EQ(got.size(), 1'000'000U);
  EXPECT_FALSE(client.was_reset());
}

TEST(RelayTest, GarblesExactlyTheBytesAskedFor) {
  RawServer server(echo);
  const auto relay = relay_to(server);
  relay->garble(2, 3);
  RawPeer client = RawPeer::connect(relay->port());
  client.send("aaaaaaaa");
  client.end_sending();
  EXPECT_EQ(client.read_to_end(), "aa```aaa");
}

}  // namespace
}  // namespace celslm::testing_support
