// Packs of version 1, as the program before version 2 wrote them, and what becomes of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/file.h"
#include "kv/pack/pack.h"
#include "kv/pack/test_support.h"
#include "tests/support/temporary_folder.h"

namespace celslm {
namespace {

using testing::HasSubstr;

// Tokens 7, 1, 5 of a llama with one layer and one head of two values, in f16.
constexpr std::string_view kFile =
    "43454c534c4d4b5601000100b2000000a2010000000000004fcab0803f4f0fbb0d7ab03afd4684d3853b1d96c31ae68b9cd6b77efea923e3"
    "c561fa9f643fe5c60113cce9db282fde2b9e5ca5fc6b6fc0d1679bb339c9f72fe7db7849b0e8851e688a5aa967f866ad08c89f6285bd8a02"
    "cde5fd9c04f0e949dcd7fa975da818f1df39519759ef71e4e911241d2ad561e1118fcb9bcf7bcc213edc5c4a5df8c79ef4f8dbdc373cd21c"
    "a041ccf39fe5693250d004092094dc4a00000000000000000000000000000000000000000000000000000000000000000100010001000000"
    "01000000020000000001000003000000050000006c6c616d61010000007207000000010000000500000000000000000000000c0000007dce"
    "c5b96c48cc5ff2e59d3cd0bb0edc22c6311c4f1f0b8675eb1f698e855f6d0c000000000000000c000000209fe627f47d2d58beb207469ba7"
    "9121c54d971926c5b4bfe6a62654339b748edcdd888c3384a606816179c44603bad93eaae00a2ac56549fd9abd5899162269e8ef6734f6f3"
    "8027689b554ce8ea4e776886a612d1daeac5142f8c95048a6b06da448fc791c12f4362b8fac760baaaa886bf33428f387545";
constexpr std::string_view kPreamble =
    "43454c534c4d4b5601000200b20000004a010000000000004fcab0803f4f0fbb0d7ab03afd4684d3853b1d96c31ae68b9cd6b77efea923e3"
    "c561fa9f643fe5c60113cce9db282fde2b9e5ca5fc6b6fc0d1679bb339c9f72fe7db7849b0e8851e688a5aa967f866ad08c89f6285bd8a02"
    "cde5fd9c04f0e949dcd7fa975da818f1df39519759ef71e4e911241d2ad561e1118fcb9bcf7bcc213edc5c4a5df8c79ef4f8dbdc373cd21c"
    "a041ccf39fe5693250d004092094dc4a00000000000000000000000000000000000000000000000000000000000000000100010001000000"
    "01000000020000000001000003000000050000006c6c616d61010000007207000000010000000500000092cf425498ab35989a93032b29c0"
    "6121181ba5d4a186c25509b2d9a07850404b2fe3d6ec56d3ab28bdc77fec3ad33da2ce2207df32556440f311d9b13b52c605";
constexpr std::string_view kEntry =
    "010000000c000000000000000c000000209fe627f47d2d58beb207469ba79121c54d971926c5b4bfe6a62654339b748e0014d13ed09087ac"
    "01d48cb45a25118f536e0530a976b1a780f43861f120abf480067442e6ef336bc3251efc476446399d0250cae90d12328c74dfaa514cad02";
// The same in version 2, in which nothing may change either.
constexpr std::string_view kFile2 =
    "43454c534c4d4b5602000100fe000000ee0100000000000000e827301ff1ce4d8fbb9563ed75a920bec49d5884a7cec9bfc91f7724460f74"
    "c561fa9f643fe5c60113cce9db282fde2b9e5ca5fc6b6fc0d1679bb339c9f72fe7db7849b0e8851e688a5aa967f866ad08c89f6285bd8a02"
    "cde5fd9c04f0e949dcd7fa975da818f1df39519759ef71e4e911241d2ad561e1118fcb9bcf7bcc213edc5c4a5df8c79ef4f8dbdc373cd21c"
    "a041ccf39fe5693250d004092094dc4a00000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "010001000100010000010000030000000300000001000000010000000200000002000000050000006c6c616d610100000072070000000100"
    "00000500000000000000000000000c0000007dcec5b96c48cc5ff2e59d3cd0bb0edc22c6311c4f1f0b8675eb1f698e855f6d0c0000000000"
    "00000c000000209fe627f47d2d58beb207469ba79121c54d971926c5b4bfe6a62654339b748ea2056fbfd9e01605fb6cb437e801cb440a71"
    "dfb9d34421f671abf49bcdb29d76d38ac99a03c48b6b2061e54470604c4584882940d40e9fb97995144ee3214706da448fc791c12f4362b8"
    "fac760baaaa886bf33428f387545";
constexpr std::string_view kPackId = "4fcab0803f4f0fbb0d7ab03afd4684d3853b1d96c31ae68b9cd6b77efea923e3";
constexpr std::string_view kSigner = "c561fa9f643fe5c60113cce9db282fde2b9e5ca5fc6b6fc0d1679bb339c9f72f";

Bytes bytes_of(std::string_view hex) {
  std::vector<std::uint8_t> out(hex.size() / 2);
  EXPECT_TRUE(from_hex(hex, out));
  const ByteView bytes = std::as_bytes(std::span(out));
  return {bytes.begin(), bytes.end()};
}

class VersionTest : public testing::Test {
 protected:
  static PackIdentity wanted() {
    PackIdentity out;
    out.model = {.architecture = "llama",
                 .n_layers = 1,
                 .n_kv_heads = 1,
                 .head_dim = 2,
                 .rope = "r",
                 .weights = hash_of("weights"),
                 .tokenizer = hash_of("tokenizer")};
    out.tokens = {7, 1, 5};
    out.context = context_id(out.model.tokenizer, out.tokens);
    return out;
  }

  const Bytes file_ = bytes_of(kFile);
  const PublicKey signer_ = PublicKey::from_hex(kSigner).value();
  const std::uint64_t header_length_ = peek_header_bytes(ByteView(file_).first(kHeaderPrefixBytes)).value();
};

TEST_F(VersionTest, ReadsPacksOfVersion1) {
  const PackHeader header = parse_header(ByteView(file_).first(header_length_), signer_).value();
  EXPECT_EQ(header.identity, version_1(wanted()));
  EXPECT_EQ(header.identity.id().hex(), kPackId);
  EXPECT_EQ(header_bytes(header.identity), header_length_);
  std::vector<float> values(6);
  for (int i = 0; i < 2; ++i) {
    const BlockEntry& entry = header.blocks[static_cast<std::size_t>(i)];
    const ByteView bytes = ByteView(file_).subspan(header_length_ + entry.offset, entry.bytes);
    const auto block = VerifiedBlock::check(i, entry, Bytes(bytes.begin(), bytes.end()));
    EXPECT_TRUE(block && decode_block(header.identity, *block, values));
  }
}

TEST_F(VersionTest, ReadsPreamblesAndEntriesOfVersion1) {
  const PackIdentity identity = parse_preamble(bytes_of(kPreamble), signer_).value();
  EXPECT_EQ(identity, version_1(wanted()));
  EXPECT_EQ(parse_entry(bytes_of(kEntry), identity, signer_)->index, 1U);
  EXPECT_EQ(parse_entry(bytes_of(kEntry), wanted(), signer_).error().kind, ErrorKind::kMismatch)
      << "an entry of version 1 replayed for version 2";
}

TEST_F(VersionTest, OfVersion1EveryFlippedByteIsRefused) {
  for (std::size_t i = 0; i < header_length_; ++i) {
    Bytes bytes(file_.begin(), file_.begin() + static_cast<std::ptrdiff_t>(header_length_));
    bytes[i] ^= std::byte{4};
    EXPECT_FALSE(parse_header(bytes, signer_)) << i;
  }
}

TEST_F(VersionTest, BytesOfVersion2AreWhatTheyWere) {
  const testing_support::TemporaryFolder folder;
  const std::string seed = std::string(62, '0') + "2a";
  ASSERT_TRUE(write_new_private_file(folder.path() / "key", as_bytes("celslm ed25519 secret key 1\n" + seed + "\n")));
  const SigningKey key = SigningKey::load_or_create(folder.path() / "key").value();
  EXPECT_EQ(key.public_key(), signer_);
  EXPECT_EQ(testing_support::build_pack(wanted(), key).file(), bytes_of(kFile2));
  EXPECT_EQ(testing_support::build_pack(version_1(wanted()), key).file(), file_);
}

// Readers of version 1 compare these ten bytes and refuse by version.
TEST_F(VersionTest, WritesVersion2) {
  const SigningKey key = SigningKey::generate().value();
  for (const Bytes& record : {testing_support::build_pack(wanted(), key).header, encode_preamble(wanted(), key)})
    EXPECT_EQ(as_text(ByteView(record).first(10)), std::string_view("CELSLMKV\x02\0", 10));
}

TEST_F(VersionTest, OffersOfVersion1AreTakenWhereTheBitsAreTheSame) {
  EXPECT_TRUE(check_offer(wanted(), wanted(), true));
  EXPECT_TRUE(check_offer(wanted(), version_1(wanted()), false));
  const Status biased = check_offer(wanted(), version_1(wanted()), true);
  EXPECT_EQ(biased.error().kind, ErrorKind::kMismatch);
  EXPECT_THAT(biased.error().message, HasSubstr("a version 1 pack, in which K contains this model's bias"));
  PackIdentity other = version_1(wanted());
  other.model.weights = hash_of("other");
  EXPECT_THAT(check_offer(wanted(), other, false).error().message, HasSubstr("model.weights"));
}

}  // namespace
}  // namespace celslm
