// celslm cert and celslm key; what a server's options make of their files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>

#include "cli/commands.h"
#include "cli/edge_options.h"
#include "cli/test_support.h"
#include "kv/pack/key_chain.h"
#include "net/access/key_file.h"
#include "net/certificates.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing_support::Invocation;
using testing_support::TemporaryFolder;

std::string content(const std::filesystem::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

unsigned mode(const std::filesystem::path& path) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0 ? info.st_mode & 0777U : 0;
}

class AccessCommandsTest : public testing::Test {
 protected:
  int run(const std::vector<std::string>& arguments) {
    Invocation invocation;
    const int code = invocation.run(arguments);
    output_ = invocation.output();
    errors_ = invocation.errors();
    return code;
  }
  const TemporaryFolder folder_;
  const std::string certs_ = folder_ / "certs";
  const std::string keys_ = folder_ / "keys.json";
  std::string output_;
  std::string errors_;
};

TEST_F(AccessCommandsTest, AnAuthorityAndANode) {
  ASSERT_EQ(run({"cert", "authority", certs_}), kExitFine) << errors_;
  EXPECT_EQ(output_, certs_ + "/authority.pem\n" + certs_ + "/authority.key\n");
  ASSERT_EQ(run({"cert", "node", certs_, "--name", "edge-1", "--ip", "10.0.0.1", "--dns", "e.example", "--days", "30"}),
            kExitFine)
      << errors_;
  EXPECT_EQ(mode(certs_ + "/authority.key"), 0600U);
  EXPECT_EQ(mode(certs_ + "/edge-1.key"), 0600U);
  const auto facts = certificate_facts(content(certs_ + "/edge-1.pem"));
  ASSERT_TRUE(facts) << facts.error().message;
  EXPECT_EQ(facts->name, "edge-1");
  EXPECT_THAT(facts->also, testing::ElementsAre("10.0.0.1", "e.example", "edge-1"));
  EXPECT_LT(facts->ends, std::chrono::system_clock::now() + std::chrono::days(31));
  ASSERT_EQ(run({"cert", "show", certs_ + "/edge-1.pem"}), kExitFine) << errors_;
  EXPECT_THAT(output_, testing::AllOf(HasSubstr("edge-1"), HasSubstr("celslm authority"), HasSubstr("10.0.0.1")));
}

TEST_F(AccessCommandsTest, NothingIsOverwritten) {
  ASSERT_EQ(run({"cert", "authority", certs_}), kExitFine);
  const std::string key = content(certs_ + "/authority.key");
  EXPECT_EQ(run({"cert", "authority", certs_}), kExitFailed);
  EXPECT_THAT(errors_, HasSubstr("exists already"));
  EXPECT_EQ(content(certs_ + "/authority.key"), key);
  EXPECT_EQ(run({"cert", "node", certs_, "--name", "authority"}), kExitFailed);
  EXPECT_EQ(content(certs_ + "/authority.key"), key);
}

TEST_F(AccessCommandsTest, WithoutAnAuthorityItTellsHowToMakeOne) {
  EXPECT_EQ(run({"cert", "node", certs_, "--name", "edge-1"}), kExitFailed);
  EXPECT_THAT(errors_, HasSubstr("celslm cert authority " + certs_));
  EXPECT_EQ(run({"cert", "show", folder_ / "none.pem"}), kExitFailed);
  EXPECT_EQ(run({"cert", "authority", certs_, "--days", "0"}), kExitUsage);
}

TEST_F(AccessCommandsTest, AKeyIsPrintedOnceAndKeptAsAHash) {
  ASSERT_EQ(run({"key", "new", "--keys", keys_, "--name", "alice", "--tenant", "acme", "--policy", "fleet", "--concurrency",
                 "2", "--operator"}),
            kExitFine)
      << errors_;
  const std::string key = output_.substr(0, output_.find('\n'));
  const auto kept = read_keys(keys_);
  ASSERT_TRUE(kept) << kept.error().message;
  EXPECT_EQ(kept->front().hash, hash_of(key));
  EXPECT_EQ(kept->front().tenant, "acme");
  EXPECT_EQ(kept->front().widest_policy, "fleet");
  EXPECT_EQ(kept->front().limits.concurrency, 2);
  EXPECT_TRUE(kept->front().is_operator);
  EXPECT_THAT(content(keys_), Not(HasSubstr(key)));
  EXPECT_EQ(mode(keys_), 0600U);
  ASSERT_EQ(run({"key", "list", "--keys", keys_}), kExitFine);
  EXPECT_THAT(output_, testing::AllOf(HasSubstr("alice"), HasSubstr("acme"), HasSubstr("fleet"), HasSubstr("operator")));
  ASSERT_EQ(run({"key", "remove", "--keys", keys_, "--name", "alice"}), kExitFine) << errors_;
  EXPECT_EQ(run({"key", "remove", "--keys", keys_, "--name", "alice"}), kExitFailed);
}

TEST_F(AccessCommandsTest, NamesAndPoliciesAreChecked) {
  EXPECT_EQ(run({"key", "new", "--keys", keys_, "--name", "a b"}), kExitFailed);
  EXPECT_EQ(run({"key", "new", "--keys", keys_, "--name", "token"}), kExitFailed);
  EXPECT_EQ(run({"key", "new", "--keys", keys_, "--name", "a", "--tenant", "x\ny"}), kExitFailed);
  EXPECT_EQ(run({"key", "new", "--keys", keys_, "--name", "a", "--policy", "all"}), kExitUsage);
  EXPECT_FALSE(std::filesystem::exists(keys_));
}

TEST_F(AccessCommandsTest, ASigningKeyIsReplacedByOneThatItVouchesFor) {
  const std::filesystem::path cloud = folder_ / "cloud";
  EXPECT_EQ(run({"key", "rotate", "--data", folder_.path()}), kExitFailed);
  std::filesystem::create_directories(cloud);
  const PublicKey old = SigningKey::load_or_create(cloud / kSigningKeyFile)->public_key();
  ASSERT_EQ(run({"key", "rotate", "--data", folder_.path()}), kExitFine) << errors_;
  const PublicKey next = SigningKey::load_or_create(cloud / kSigningKeyFile)->public_key();
  EXPECT_EQ(output_, next.hex() + "\n");
  EXPECT_EQ(*follow(old, *read_links(cloud / kSigningLinksFile)), next);
}

TEST_F(AccessCommandsTest, ServersRefuseFilesThatTheyCannotUse) {
  const auto edge = [&](std::vector<std::string> options) {
    options.insert(options.begin(), {"edge", "--model", "none.gguf", "--data", folder_ / "data"});
    return run(options);
  };
  EXPECT_EQ(edge({"--keys", keys_}), kExitFailed);
  EXPECT_THAT(errors_, HasSubstr(keys_));
  std::ofstream(keys_) << "{}";
  EXPECT_EQ(edge({"--keys", keys_}), kExitFailed);
  EXPECT_THAT(errors_, HasSubstr("keys"));
  EXPECT_EQ(edge({"--client-authority", "a.pem"}), kExitUsage);
  EXPECT_THAT(errors_, HasSubstr("--client-authority needs TLS"));
}

TEST_F(AccessCommandsTest, AnEdgeLendsItsRightsToNobodyItDoesNotKnow) {
  EdgeCommand command;
  EXPECT_TRUE(complete_options(command)->forwards_registrations);
  command.cloud.certificate = {.certificate_file = "c", .key_file = "k"};
  EXPECT_FALSE(complete_options(command)->forwards_registrations);
  command.listen.keys_file = "keys";
  EXPECT_TRUE(complete_options(command)->forwards_registrations);
  command.listen = {.tls_certificate_file = "c", .tls_key_file = "k", .client_authority_file = "a"};
  EXPECT_TRUE(complete_options(command)->forwards_registrations);
}

TEST_F(AccessCommandsTest, AnEdgesServerCertificateIsWhatItShowsUnlessThereIsAnother) {
  EdgeCommand command;
  EXPECT_EQ(client_certificate(command).certificate_file, "");
  command.listen.tls_certificate_file = "server.pem";
  command.listen.tls_key_file = "server.key";
  EXPECT_EQ(client_certificate(command).key_file, "server.key");
  command.cloud.certificate = {.certificate_file = "c", .key_file = "k"};
  EXPECT_EQ(client_certificate(command).certificate_file, "c");
}

}  // namespace
}  // namespace celslm
