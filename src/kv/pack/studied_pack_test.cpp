// Packs of fewer rows than tokens: a third plane of blocks, and what hostile ones may claim.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "core/file.h"
#include "kv/pack/pack_inspect.h"
#include "kv/pack/pack_layout.h"
#include "kv/pack/places.h"
#include "kv/pack/test_support.h"
#include "tests/support/temporary_folder.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing_support::build_pack;
using testing_support::BuiltPack;
using testing_support::small_identity;
using testing_support::some_places;
using testing_support::studied_identity;

class StudiedPackTest : public testing::Test {
 protected:
  // The message with which a header of this identity is refused. The identity need not be a valid one.
  std::string refusal(const PackIdentity& identity) {
    const Status checked = check_identity(identity);
    EXPECT_FALSE(checked);
    return checked ? "" : checked.error().message;
  }

  // Of block 0, places, with these bytes and their right hash.
  std::string places_refusal(const Bytes& bytes) {
    const auto read = decode_places(identity_, VerifiedBlock::make(0, 0, bytes));
    EXPECT_FALSE(read);
    return read ? "" : read.error().message;
  }

  const SigningKey key_ = SigningKey::generate().value();
  const PackIdentity identity_ = studied_identity(270);  // 2 chunks
};

TEST_F(StudiedPackTest, HasPlacesBeforeKAndVInEachLayer) {
  EXPECT_EQ(identity_.n_blocks(), 3 * 3 * 2);
  std::vector<BlockRef> refs;
  for (int i = 0; i < identity_.n_blocks(); ++i) {
    refs.push_back(block_ref(identity_, i));
    EXPECT_EQ(block_index(identity_, refs.back()), i);
  }
  EXPECT_EQ(refs[0], (BlockRef{0, BlockKind::kPlaces, 0}));
  EXPECT_EQ(refs[1], (BlockRef{0, BlockKind::kPlaces, 1}));
  EXPECT_EQ(refs[2], (BlockRef{0, BlockKind::kKey, 0}));
  EXPECT_EQ(refs[4], (BlockRef{0, BlockKind::kValue, 0}));
  EXPECT_EQ(refs[6], (BlockRef{1, BlockKind::kPlaces, 0}));
  EXPECT_EQ(refs[17], (BlockRef{2, BlockKind::kValue, 1}));
}

TEST_F(StudiedPackTest, IsReadAsItWasWrittenWithEveryCodec) {
  for (const Codec* codec : all_codecs()) {
    for (const int n_rows : {1, 255, 256, 270, 300}) {
      const BuiltPack pack = build_pack(studied_identity(n_rows, codec->id()), key_);
      const auto header = parse_header(pack.header, key_.public_key());
      ASSERT_TRUE(header) << header.error().message;
      EXPECT_EQ(header->identity, pack.identity);
      EXPECT_EQ(header->identity.n_rows(), n_rows);
      for (int i = 0; i < pack.identity.n_blocks(); ++i) {
        const BlockRef ref = block_ref(pack.identity, i);
        const auto index = static_cast<std::size_t>(i);
        EXPECT_TRUE(block_offset(pack.identity, i).contain(pack.entries[index].offset)) << i;
        EXPECT_TRUE(block_bytes(pack.identity, i).contain(pack.entries[index].bytes)) << i;
        if (ref.kind != BlockKind::kPlaces) continue;
        const auto places = decode_places(pack.identity, pack.checked(i));
        ASSERT_TRUE(places) << places.error().message;
        EXPECT_EQ(*places, some_places(pack.identity, ref.chunk));
      }
    }
  }
}

TEST_F(StudiedPackTest, IsAnotherPackForEveryStudyAndNumberOfRows) {
  PackIdentity other = identity_;
  other.rows = 269;
  EXPECT_NE(other.id(), identity_.id());
  EXPECT_THAT(check_offer(identity_, other, false).error().message, HasSubstr("n_rows (270 here, 269 there)"));
  other = identity_;
  other.study = hash_of("another");
  EXPECT_THAT(check_offer(identity_, other, false).error().message, HasSubstr("study"));
  EXPECT_THAT(check_offer(small_identity(), identity_, false).error().message,
              HasSubstr("provenance (proxy here, studied there)"));
}

TEST_F(StudiedPackTest, RefusesRowsThatCannotBe) {
  PackIdentity bad = identity_;
  for (const int rows : {0, -1, 301}) {
    bad.rows = rows;
    EXPECT_THAT(refusal(bad), HasSubstr("n_rows is")) << rows;
  }
  bad = small_identity();
  bad.rows = 300;
  EXPECT_THAT(refusal(bad), HasSubstr("n_rows is 300, but n_tokens is 300 and provenance proxy"));
}

TEST_F(StudiedPackTest, RefusesAHeaderWithoutTheBlocksOfPlaces) {
  BuiltPack pack = build_pack(identity_, key_);
  pack.header.erase(pack.header.end() - sizeof(Signature) - 6 * kTableEntryBytes, pack.header.end() - sizeof(Signature));
  const std::uint64_t length = pack.header.size();
  std::memcpy(pack.header.data() + 16, &length, sizeof length);
  const auto parsed = parse_header_unverified(pack.header);
  ASSERT_FALSE(parsed);
  EXPECT_THAT(parsed.error().message, HasSubstr("the identity requires"));
}

TEST_F(StudiedPackTest, RefusesAnEntryOfPlacesThatIsLongerOrShorterThanTheyAre) {
  for (const std::uint32_t bytes : {4096U - 8U, 4096U + 8U, 0U}) {
    const Status checked = check_bounds(identity_, 0, {.bytes = bytes});
    EXPECT_THAT(checked.error().message, HasSubstr("expected 4096"));
  }
}

TEST_F(StudiedPackTest, RefusesPositionsOutsideTheContext) {
  for (const std::int32_t position : {-1, 300, std::numeric_limits<std::int32_t>::max()}) {
    RowPlaces places = some_places(identity_, 0);
    places.positions[17] = position;
    EXPECT_THAT(places_refusal(encode_places(places)),
                testing::AllOf(HasSubstr("layer 0 places chunk 0"), HasSubstr("at index 17, expected 0 to 299")));
  }
}

TEST_F(StudiedPackTest, RefusesLogMassesThatAreNotFiniteOrAbsurd) {
  for (const float mass : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                           -std::numeric_limits<float>::infinity(), 32.5F, -1e30F}) {
    RowPlaces places = some_places(identity_, 0);
    places.log_mass[3] = mass;
    EXPECT_THAT(places_refusal(encode_places(places)), HasSubstr("at index 3, expected -32 to 32"));
  }
}

TEST_F(StudiedPackTest, RefusesPlacesThatWereNotSigned) {
  const Bytes bytes = encode_places(some_places(identity_, 0));
  Bytes changed = bytes;
  changed[5] ^= std::byte{1};
  const auto read = VerifiedBlock::check(0, make_entry(0, bytes), changed);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kMismatch);
}

TEST_F(StudiedPackTest, DoesNotTakePlacesForValues) {
  const Bytes bytes = encode_places(some_places(identity_, 0));
  std::vector<float> values(identity_.shape(BlockKind::kPlaces, 0).values());
  EXPECT_FALSE(decode_block(identity_, VerifiedBlock::make(0, 0, bytes), values));
  const int keys = block_index(identity_, {0, BlockKind::kKey, 0});
  EXPECT_FALSE(decode_places(identity_, VerifiedBlock::make(keys, 0, bytes)));
}

TEST_F(StudiedPackTest, SaysHowManyRowsStandForHowManyTokens) {
  const testing_support::TemporaryFolder folder;
  const BuiltPack pack = build_pack(identity_, key_);
  const Bytes file = pack.file();
  ASSERT_TRUE(write_file_atomically(folder.path() / "p", file));
  const auto text = describe_pack(folder.path() / "p", key_.public_key());
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_THAT(*text, HasSubstr("270 rows for 300 tokens"));
  EXPECT_THAT(*text, HasSubstr("every block matches its hash and decodes"));
}

TEST(RowPlacesTest, ArePutTogetherFromChunksOfRows) {
  const PackIdentity identity = studied_identity(300);
  RowPlaces all(2, 300);
  for (int chunk = 0; chunk < 2; ++chunk) all.put(static_cast<std::size_t>(chunk) * 256, some_places(identity, chunk), 2);
  EXPECT_EQ(all.rows(0, 256, 2), some_places(identity, 0));
  EXPECT_EQ(all.rows(256, 44, 2), some_places(identity, 1));
}

}  // namespace
}  // namespace celslm
