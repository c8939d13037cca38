// What a server tells the service manager that started it.
#include "cli/terminal/service_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <future>

#include "cli/test_support.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using testing_support::Invocation;
using testing_support::TemporaryFolder;

// The manager's end of the socket.
class Manager {
 public:
  explicit Manager(const std::string& name) {
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    std::ranges::copy(name, address.sun_path);
    if (name.starts_with('@')) address.sun_path[0] = '\0';
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    EXPECT_EQ(::bind(fd_, reinterpret_cast<const sockaddr*>(&address), length), 0);
  }
  ~Manager() { ::close(fd_); }
  Manager(const Manager&) = delete;
  Manager& operator=(const Manager&) = delete;

  std::string next() const {  // waits
    std::array<char, 512> text{};
    const ssize_t n = ::recv(fd_, text.data(), text.size(), 0);
    return {text.data(), static_cast<std::size_t>(std::max<ssize_t>(n, 0))};
  }

 private:
  const int fd_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
};

class ServiceManagerTest : public testing::Test {
 protected:
  Status tell(const std::string& socket, std::string_view state) {
    const Environment env{.out = invocation_.out,
                          .err = invocation_.err,
                          .in = invocation_.in,
                          .variable = [&](const char*) { return socket.empty() ? std::nullopt : std::optional(socket); },
                          .signals = invocation_.signals,
                          .clock = invocation_.clock,
                          .action = {}};
    return tell_service_manager(env, state);
  }
  const TemporaryFolder folder_;
  Invocation invocation_;
};

TEST_F(ServiceManagerTest, GetsWhatItIsTold) {
  for (const std::string& name : {(folder_ / "notify").string(), "@celslm-test-" + std::to_string(::getpid())}) {
    const Manager manager(name);
    EXPECT_TRUE(tell(name, "READY=1"));
    EXPECT_EQ(manager.next(), "READY=1");
  }
}

TEST_F(ServiceManagerTest, WithoutOneNothingHappens) {
  EXPECT_TRUE(tell("", "READY=1"));
}

TEST_F(ServiceManagerTest, ASocketThatNobodyReadsIsAnError) {
  EXPECT_THAT(tell((folder_ / "gone").string(), "READY=1").error().message, HasSubstr("gone takes no messages"));
  EXPECT_THAT(tell(std::string(200, 'x'), "READY=1").error().message, HasSubstr("200 bytes"));
}

TEST_F(ServiceManagerTest, ACloudReportsThatItIsReadyAndThatItStops) {
  const Manager manager((folder_ / "notify").string());
  invocation_.variables["NOTIFY_SOCKET"] = (folder_ / "notify").string();
  testing_support::write_random_model(folder_ / "model.gguf", {});
  auto code = std::async(std::launch::async, [&] {
    return invocation_.run({"cloud", "--model", folder_ / "model.gguf", "--port", "0", "--data", folder_ / "data",
                            "--threads", "1", "--log-level", "off"});
  });
  EXPECT_THAT(manager.next(), StartsWith("READY=1\nSTATUS=listening on http://127.0.0.1:"));
  invocation_.signals.request_stop();
  EXPECT_THAT(manager.next(), StartsWith("STOPPING=1"));
  EXPECT_EQ(code.get(), 0);
}

}  // namespace
}  // namespace celslm
