#include "kv/pack/pack_inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/file.h"
#include "kv/pack/test_support.h"
#include "tests/support/temporary_folder.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing_support::build_pack;
using testing_support::small_identity;

class PackInspectTest : public testing::Test {
 protected:
  std::string describe(const Bytes& file, std::optional<PublicKey> signer) const {
    EXPECT_TRUE(write_file_atomically(path(), file));
    const auto text = describe_pack(path(), signer);
    EXPECT_TRUE(text) << text.error().message;
    return text.value_or("");
  }
  std::filesystem::path path() const { return folder_.path() / "x.kvpack"; }

  testing_support::TemporaryFolder folder_;
  SigningKey key_ = SigningKey::generate().value();
  testing_support::BuiltPack pack_ = build_pack(small_identity(CodecId::kQ8), key_);
};

TEST_F(PackInspectTest, DescribesAGoodPack) {
  const std::string text = describe(pack_.file(), key_.public_key());
  EXPECT_THAT(text, HasSubstr(pack_.identity.id().hex()));
  EXPECT_THAT(text, HasSubstr("300 tokens"));
  EXPECT_THAT(text, HasSubstr("qwen2, 3 layers, 2 KV heads of 20"));
  EXPECT_THAT(text, HasSubstr("codec         q8"));
  EXPECT_THAT(text, HasSubstr("valid, by the trusted key"));
  EXPECT_THAT(text, HasSubstr("every block matches"));
  EXPECT_THAT(text, Not(HasSubstr("BAD")));
}

TEST_F(PackInspectTest, ReportsAnUntrustedSigner) {
  EXPECT_THAT(describe(pack_.file(), std::nullopt), HasSubstr("no trusted key was given"));
  EXPECT_THAT(describe(pack_.file(), SigningKey::generate()->public_key()), HasSubstr("NOT TRUSTED"));
}

TEST_F(PackInspectTest, ReportsAForgedSignature) {
  Bytes file = pack_.file();
  file[pack_.header.size() - 1] ^= std::byte{1};
  EXPECT_THAT(describe(file, key_.public_key()), HasSubstr("signature     BAD"));
}

TEST_F(PackInspectTest, NamesTheDamagedBlock) {
  Bytes file = pack_.file();
  file[pack_.header.size() + pack_.entries[7].offset] ^= std::byte{1};
  const std::string text = describe(file, key_.public_key());
  EXPECT_THAT(text, HasSubstr("BAD: 1 of 12 blocks"));
  EXPECT_THAT(text, HasSubstr("block 7: layer 1 V chunk 1"));
}

TEST_F(PackInspectTest, DescribesATruncatedPack) {
  Bytes file = pack_.file();
  file.resize(pack_.header.size() + pack_.entries[2].offset);
  const std::string text = describe(file, key_.public_key());
  EXPECT_THAT(text, HasSubstr("the header describes a file of"));
  EXPECT_THAT(text, HasSubstr("BAD: 10 of 12 blocks"));
}

TEST_F(PackInspectTest, ReplacesControlCharacters) {
  PackIdentity identity = small_identity();
  identity.model.architecture = "x\x1b[31m";
  EXPECT_THAT(describe(build_pack(identity, key_).file(), std::nullopt), Not(HasSubstr("\x1b")));
}

TEST_F(PackInspectTest, RejectsAFileWithoutAHeaderAndNamesIt) {
  EXPECT_EQ(describe_pack(path(), std::nullopt).error().kind, ErrorKind::kNotFound);
  ASSERT_TRUE(write_file_atomically(path(), as_bytes("GGUF and so on, longer than a prefix")));
  const auto text = describe_pack(path(), std::nullopt);
  EXPECT_EQ(text.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(text.error().message, HasSubstr("x.kvpack"));
}

}  // namespace
}  // namespace celslm
