// A server's certificate that changes, or breaks, while the server runs.
#include "net/tls_acceptor.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <filesystem>
#include <fstream>

#include "net/socket.h"
#include "tests/support/readable_log.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tls_identity.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;
using testing_support::TlsIdentity;

class TlsAcceptorTest : public testing::Test {
 protected:
  TlsAcceptorTest() {
    std::array<int, 2> ends{-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
    here_ = Fd(ends[0]);
    there_ = Fd(ends[1]);
    auto acceptor = TlsAcceptor::create({.certificate = certificate_, .key = key_}, log_.log());
    EXPECT_TRUE(acceptor);
    acceptor_ = *std::move(acceptor);
  }
  // As somebody connects; what the log then has anew.
  std::string accept() {
    EXPECT_TRUE(acceptor_->accept(here_.get()));
    return log_.taken();
  }
  static void put(const std::string& from, const std::string& to) {
    fs::copy_file(from, to + ".new");
    fs::rename(to + ".new", to);
  }

  testing_support::TemporaryFolder folder_;
  testing_support::ReadableLog log_;
  std::unique_ptr<TlsIdentity> first_ = TlsIdentity::create(folder_.path() / "first");
  std::unique_ptr<TlsIdentity> second_ = TlsIdentity::create(folder_.path() / "second");
  const std::string certificate_ = first_->certificate_file();
  const std::string key_ = first_->key_file();
  Fd here_, there_;
  std::unique_ptr<TlsAcceptor> acceptor_;
};

TEST_F(TlsAcceptorTest, ReadsWhatHasChangedOnce) {
  EXPECT_EQ(accept(), "");
  put(second_->certificate_file(), certificate_);
  put(second_->key_file(), key_);
  EXPECT_EQ(accept(), "info " + certificate_ + " was read again\n");
  EXPECT_EQ(accept(), "");
}

TEST_F(TlsAcceptorTest, ReportsWhatCannotBeUsedOnceAndGoesOnWithTheOldOne) {
  put(second_->certificate_file(), certificate_);  // the key is still the first one's
  EXPECT_TRUE(accept().starts_with("error the certificate stays as it was: " + key_ + " is not the key of"));
  EXPECT_EQ(accept(), "");
  put(second_->key_file(), key_);
  EXPECT_EQ(accept(), "info " + certificate_ + " was read again\n");
  std::ofstream(certificate_ + ".new") << "no certificate";
  fs::rename(certificate_ + ".new", certificate_);
  EXPECT_TRUE(accept().starts_with("error the certificate stays as it was: " + certificate_ + ": no usable PEM"));
  EXPECT_EQ(accept(), "");
  fs::remove(key_);
  EXPECT_TRUE(accept().starts_with("error "));
  EXPECT_EQ(accept(), "");
}

}  // namespace
}  // namespace celslm
