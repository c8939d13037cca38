#include "kv/pack/signing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "core/file.h"
#include "kv/pack/test_support.h"
#include "tests/support/temporary_folder.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class SigningTest : public testing::Test {
 protected:
  fs::path path() const { return folder_.path() / "cloud.key"; }
  void write_private(std::string_view text) const {
    fs::remove(path());
    ASSERT_TRUE(write_new_private_file(path(), as_bytes(text)).value());
  }
  testing_support::TemporaryFolder folder_;
};

TEST_F(SigningTest, AcceptsItsOwnSignatureOnly) {
  const auto key = SigningKey::generate().value();
  const Signature signature = key.sign(as_bytes("message"));
  EXPECT_TRUE(verify(key.public_key(), as_bytes("message"), signature));
  EXPECT_FALSE(verify(key.public_key(), as_bytes("massage"), signature));
  EXPECT_FALSE(verify(SigningKey::generate()->public_key(), as_bytes("message"), signature));
  for (std::size_t i = 0; i < signature.size(); ++i) {
    Signature changed = signature;
    changed[i] ^= 1;
    EXPECT_FALSE(verify(key.public_key(), as_bytes("message"), changed)) << i;
  }
}

TEST_F(SigningTest, RefusesTheKeyThatVerifiesEverything) {
  EXPECT_FALSE(verify(PublicKey{}, as_bytes("message"), Signature{}));  // a point of small order
}

TEST_F(SigningTest, KeepsItsKeyInAFileThatOnlyTheOwnerMayRead) {
  const PublicKey made = SigningKey::load_or_create(path())->public_key();
  struct stat info{};
  ASSERT_EQ(::stat(path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  EXPECT_EQ(SigningKey::load_or_create(path())->public_key(), made);
  EXPECT_NE(SigningKey::load_or_create(folder_.path() / "other.key")->public_key(), made);
}

TEST_F(SigningTest, ReadsTheKeyOfAKnownFile) {  // RFC 8032, 7.1, test 1
  write_private("celslm ed25519 secret key 1\n9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60\n");
  const auto key = SigningKey::load_or_create(path());
  ASSERT_TRUE(key) << key.error().message;
  EXPECT_EQ(key->public_key().hex(), "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
  EXPECT_TRUE(to_hex(key->sign({})).starts_with("e5564300c360ac729086e2cc806e828a"));
}

TEST_F(SigningTest, ProcessesThatStartTogetherEndUpWithOneKey) {
  for (int i = 0; i < 4; ++i) {
    if (::fork() == 0) ::_exit(SigningKey::load_or_create(path()) ? 0 : 1);
  }
  const auto ours = SigningKey::load_or_create(path());
  for (int i = 0; i < 4; ++i) {
    int status = 0;
    ::wait(&status);
    EXPECT_EQ(status, 0);
  }
  ASSERT_TRUE(ours);
  EXPECT_EQ(SigningKey::load_or_create(path())->public_key(), ours->public_key());
}

TEST_F(SigningTest, RefusesAKeyThatOthersMayReadWithAHint) {
  ASSERT_TRUE(SigningKey::load_or_create(path()));
  fs::permissions(path(), fs::perms::group_read, fs::perm_options::add);
  const auto key = SigningKey::load_or_create(path());
  ASSERT_FALSE(key);
  EXPECT_EQ(key.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(key.error().message, HasSubstr("chmod 600 " + path().string()));
}

TEST_F(SigningTest, RefusesAFileThatIsNotAKeyAndKeepsIt) {
  for (const std::string_view text :
       {"", "hello", "celslm ed25519 secret key 1\n",
        "celslm ed25519 secret key 1\nzd61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60\n",
        "celslm ed25519 secret key 2\n9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60\n"}) {
    write_private(text);
    const auto key = SigningKey::load_or_create(path());
    ASSERT_FALSE(key) << text;
    EXPECT_EQ(key.error().kind, ErrorKind::kInvalid);
    EXPECT_THAT(key.error().message, HasSubstr("cloud.key"));
    EXPECT_EQ(as_text(read_file(path(), 1000).value()), text);
  }
}

TEST_F(SigningTest, NamesTheFileThatItCannotCreate) {
  const auto key = SigningKey::load_or_create(folder_.path() / "no" / "folder" / "cloud.key");
  ASSERT_FALSE(key);
  EXPECT_THAT(key.error().message, HasSubstr("cloud.key"));
}

TEST_F(SigningTest, ReadsPublicKeysFromHex) {
  const PublicKey key = SigningKey::generate()->public_key();
  EXPECT_EQ(PublicKey::from_hex(key.hex()).value(), key);
  EXPECT_THAT(PublicKey::from_hex("12").error().message, HasSubstr("public key"));
}

}  // namespace
}  // namespace celslm
