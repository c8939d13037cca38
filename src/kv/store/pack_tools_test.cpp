#include "kv/store/pack_tools.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/file.h"
#include "kv/pack/test_support.h"
#include "tests/support/temporary_folder.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing_support::build_pack;
using testing_support::small_identity;

class PackToolsTest : public testing::Test {
 protected:
  StoredPack stored(const Bytes& file, const std::string& name) const {
    EXPECT_TRUE(write_file_atomically(folder_.path() / name, file));
    return open(name);
  }
  StoredPack open(const std::string& name) const {
    auto pack = open_pack_file(folder_.path() / name, key_.public_key());
    EXPECT_TRUE(pack) << pack.error().message;
    return *std::move(pack);
  }
  Result<std::uint64_t> convert(const StoredPack& from, const Codec& to) const {
    return convert_pack(from, to, key_, folder_.path() / "converted");
  }

  testing_support::TemporaryFolder folder_;
  SigningKey key_ = SigningKey::generate().value();
  StoredPack exact_ = stored(build_pack(small_identity(), key_).file(), "exact");
};

TEST_F(PackToolsTest, ConvertsToEveryApproximateCodecWithAValidResult) {
  for (const Codec* codec : all_codecs()) {
    if (codec->exact_for()) continue;
    const auto bytes = convert(exact_, *codec);
    ASSERT_TRUE(bytes) << bytes.error().message;
    const StoredPack pack = open("converted");
    EXPECT_EQ(pack.file->size(), *bytes);
    EXPECT_EQ(pack.header.identity.codec, codec->id());
    const auto difference = compare_packs(exact_, pack);
    ASSERT_TRUE(difference) << difference.error().message;
    EXPECT_FALSE(difference->same_values);
    EXPECT_THAT(difference->text, HasSubstr("codec"));
    EXPECT_THAT(difference->text, HasSubstr("layer   2 V  error 0."));
  }
}

TEST_F(PackToolsTest, RefusesToConvertFromApproximateCodecsOrToAnotherType) {
  const StoredPack lossy = stored(build_pack(small_identity(CodecId::kQ8), key_).file(), "lossy");
  EXPECT_EQ(convert(lossy, *find_codec("t3").value()).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(convert(exact_, *find_codec("bf16").value()).error().kind, ErrorKind::kInvalid);
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "converted"));
}

TEST_F(PackToolsTest, ConvertsBetweenCodecsThatAreExactForF16AndBack) {
  ASSERT_TRUE(convert(exact_, *find_codec("f16z").value()));
  const StoredPack smaller = open("converted");
  EXPECT_TRUE(compare_packs(exact_, smaller)->same_values);
  std::filesystem::rename(folder_.path() / "converted", folder_.path() / "smaller");
  ASSERT_TRUE(convert(smaller, *find_codec("f16").value()));
  EXPECT_EQ(read_file(folder_.path() / "converted", 1U << 30).value(),
            read_file(folder_.path() / "exact", 1U << 30).value());
}

// Whose chunks have another number of rows.
TEST_F(PackToolsTest, ConvertsStudiedPacksWithTheirPlaces) {
  const StoredPack studied = stored(build_pack(testing_support::studied_identity(270), key_).file(), "studied");
  ASSERT_TRUE(convert(studied, *find_codec("t4").value()));
  const StoredPack coarse = open("converted");
  EXPECT_EQ(coarse.header.identity.n_chunks(), 1);
  EXPECT_EQ(*read_places(coarse, 2), *read_places(studied, 2));
  const auto difference = compare_packs(studied, coarse);
  ASSERT_TRUE(difference) << difference.error().message;
  EXPECT_THAT(difference->text, testing::Not(HasSubstr("other positions")));
  EXPECT_FALSE(compare_packs(studied, exact_)) << "they have different numbers of rows";
}

TEST_F(PackToolsTest, LeavesNothingIfABlockIsDamaged) {
  auto built = build_pack(small_identity(), key_);
  built.blocks[5][0] ^= std::byte{1};
  const StoredPack damaged = stored(built.file(), "damaged");
  EXPECT_EQ(convert(damaged, *find_codec("q8").value()).error().kind, ErrorKind::kMismatch);
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "converted"));
  EXPECT_EQ(compare_packs(exact_, damaged).error().kind, ErrorKind::kMismatch);
}

TEST_F(PackToolsTest, APackEqualsItself) {
  EXPECT_TRUE(compare_packs(exact_, exact_)->same_values);
}

TEST_F(PackToolsTest, RefusesToComparePacksOfDifferentContexts) {
  const StoredPack other = stored(build_pack(small_identity(CodecId::kF16, 299), key_).file(), "other");
  const auto difference = compare_packs(exact_, other);
  ASSERT_FALSE(difference);
  EXPECT_THAT(difference.error().message, HasSubstr("different contexts"));
}

}  // namespace
}  // namespace celslm
