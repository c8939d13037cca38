// One scenario for each way in which a pack can be damaged or forged.
#include "kv/pack/pack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "kv/pack/test_support.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing_support::build_pack;
using testing_support::BuiltPack;
using testing_support::small_identity;

// Offsets in the header, taken from docs/kv-pack-format.md rather than from the code under test.
constexpr std::size_t kPackId = 24;
constexpr std::size_t kSigner = 56;
constexpr std::size_t kIdentity = 88;
constexpr std::size_t kTuning = kIdentity + 128;
constexpr std::size_t kStudy = kIdentity + 160;
constexpr std::size_t kCodec = kIdentity + 192;
constexpr std::size_t kArithmetic = kIdentity + 194;
constexpr std::size_t kProvenance = kIdentity + 196;
constexpr std::size_t kSplit = kIdentity + 197;
constexpr std::size_t kRuns = kIdentity + 198;
constexpr std::size_t kBlockTokensField = kIdentity + 200;
constexpr std::size_t kRowCount = kIdentity + 204;
constexpr std::size_t kTokenCount = kIdentity + 208;
constexpr std::size_t kLayers = kIdentity + 212;
constexpr std::size_t kLayerKind = kIdentity + 214;
constexpr std::size_t kRunReserved = kIdentity + 215;
constexpr std::size_t kHeads = kIdentity + 216;
constexpr std::size_t kHeadDim = kIdentity + 220;
constexpr std::size_t kValueDim = kIdentity + 224;
constexpr std::size_t kArchitecture = kIdentity + 228;

template <typename T>
void poke(Bytes& bytes, std::size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

class PackTest : public testing::Test {
 protected:
  PackTest() : key_(SigningKey::generate().value()), pack_(build_pack(small_identity(), key_)) {}

  std::size_t identity_length() const { return table() - kIdentity; }
  std::size_t table() const { return pack_.header.size() - 64 - 44 * pack_.entries.size(); }
  Result<PackHeader> parse(const Bytes& bytes) const { return parse_header(bytes, key_.public_key()); }

  // The error of parsing the header after `change`. Fields are checked before the signature, so kInvalid shows that the
  // field itself was rejected.
  template <typename Change>
  Error error_after(const Change& change) const {
    Bytes bytes = pack_.header;
    change(bytes);
    const auto parsed = parse(bytes);
    EXPECT_FALSE(parsed);
    return parsed ? Error{} : parsed.error();
  }
  template <typename T>
  std::string refusal(std::size_t offset, T value) const {
    const Error error = error_after([&](Bytes& bytes) { poke(bytes, offset, value); });
    EXPECT_EQ(error.kind, ErrorKind::kInvalid) << error.message;
    return error.message;
  }

  SigningKey key_;
  BuiltPack pack_;
};

TEST_F(PackTest, RoundTrips) {
  for (const Codec* codec : all_codecs()) {
    const BuiltPack pack = build_pack(small_identity(codec->id()), key_);
    const auto header = parse(pack.header);
    ASSERT_TRUE(header) << header.error().message;
    EXPECT_EQ(header->identity, pack.identity);
    EXPECT_EQ(header->blocks, pack.entries);
    EXPECT_EQ(header->signer, key_.public_key());
    EXPECT_EQ(header->block_region_bytes() + pack.header.size(), pack.file().size());
  }
}

TEST_F(PackTest, EncodingIsDeterministic) {
  EXPECT_EQ(build_pack(small_identity(), key_).file(), pack_.file());
}

TEST_F(PackTest, PeeksTheHeadersLengthFromItsFirstBytes) {
  EXPECT_EQ(peek_header_bytes(ByteView(pack_.header).first(kHeaderPrefixBytes)).value(), pack_.header.size());
  EXPECT_EQ(header_bytes(pack_.identity), pack_.header.size());
  EXPECT_FALSE(peek_header_bytes(ByteView(pack_.header).first(kHeaderPrefixBytes - 1)));
}

TEST_F(PackTest, NumbersBlocksLayerByLayerKBeforeVChunkByChunk) {
  int expected = 0;
  for (int layer = 0; layer < 3; ++layer) {
    for (const BlockKind kind : {BlockKind::kKey, BlockKind::kValue}) {
      for (int chunk = 0; chunk < 2; ++chunk, ++expected) {
        const BlockRef ref{layer, kind, chunk};
        EXPECT_EQ(block_index(pack_.identity, ref), expected);
        EXPECT_EQ(block_ref(pack_.identity, expected), ref);
      }
    }
  }
  EXPECT_EQ(expected, pack_.identity.n_blocks());
}

TEST_F(PackTest, PlacesBlocksWithoutGaps) {
  std::uint64_t end = 0;
  for (const BlockEntry& entry : pack_.entries) {
    EXPECT_EQ(entry.offset, end);
    end += entry.bytes;
  }
  EXPECT_TRUE(block_region_bytes(pack_.identity).contain(end));
}

// The arithmetic of docs/kv-pack-format.md, "What it costs".
TEST_F(PackTest, SizesMatchTheDocument) {
  PackIdentity identity = small_identity(CodecId::kF16, 2048);
  identity.model.n_layers = 24;
  identity.model.head_dim = 64;
  EXPECT_EQ(identity.n_blocks(), 384);
  EXPECT_EQ(block_bytes(identity, 0), (ByteBounds{65536, 65536}));
  EXPECT_EQ(block_region_bytes(identity), (ByteBounds{25165824, 25165824}));
  EXPECT_NEAR(static_cast<double>(header_bytes(identity)), 25500.0, 50.0);
  identity.codec = CodecId::kQ8;
  EXPECT_EQ(block_bytes(identity, 0), (ByteBounds{34816, 34816}));
  EXPECT_EQ(block_region_bytes(identity), (ByteBounds{13369344, 13369344}));
}

TEST_F(PackTest, DecodesEveryBlock) {
  const Codec& codec = *find_codec(pack_.identity.codec).value();
  for (int i = 0; i < pack_.identity.n_blocks(); ++i) {
    const BlockRef ref = block_ref(pack_.identity, i);
    const auto index = static_cast<std::size_t>(i);
    std::vector<float> values(pack_.identity.shape(ref.kind, ref.chunk).values());
    ASSERT_TRUE(decode_block(pack_.identity, pack_.checked(i), values));
    EXPECT_EQ(codec.encode(pack_.identity.shape(ref.kind, ref.chunk), values).value(), pack_.blocks[index]);
  }
}

TEST_F(PackTest, RefusesABlockWithAnyBitFlippedAndNamesIt) {
  constexpr std::size_t index = 7;
  for (std::size_t bit = 0; bit < pack_.blocks[index].size() * 8; bit += 1001) {
    Bytes bytes = pack_.blocks[index];
    bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    const auto block = VerifiedBlock::check(index, pack_.entries[index], bytes);
    ASSERT_FALSE(block);
    EXPECT_EQ(block.error().kind, ErrorKind::kMismatch);
    EXPECT_THAT(block.error().message, HasSubstr("block 7 "));
  }
}

TEST_F(PackTest, RefusesATruncatedOrTooLongBlock) {
  for (const std::size_t length : {std::size_t{0}, pack_.blocks[0].size() - 1, pack_.blocks[0].size() + 1}) {
    Bytes bytes = pack_.blocks[0];
    bytes.resize(length);
    const auto block = VerifiedBlock::check(0, pack_.entries[0], bytes);
    ASSERT_FALSE(block);
    EXPECT_EQ(block.error().kind, ErrorKind::kInvalid);
  }
}

TEST_F(PackTest, RefusesABlockSwappedWithAnother) {
  EXPECT_FALSE(VerifiedBlock::check(0, pack_.entries[0], pack_.blocks[4]));
}

TEST_F(PackTest, RefusesASignedBlockThatItsCodecCannotDecode) {
  Bytes infinities(pack_.blocks[0].size(), std::byte{0x7C});
  std::vector<float> values(pack_.identity.shape(BlockKind::kKey, 0).values());
  const auto status = decode_block(pack_.identity, VerifiedBlock::make(0, 0, infinities), values);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(status.error().message, HasSubstr("layer 0 K chunk 0"));
}

TEST_F(PackTest, RefusesAHeaderTruncatedAtAnyByte) {
  for (std::size_t length = 0; length < pack_.header.size(); ++length) {
    EXPECT_FALSE(parse_header_unverified(ByteView(pack_.header).first(length))) << length;
  }
}

TEST_F(PackTest, RefusesAHeaderWithBytesAfterIt) {
  Bytes bytes = pack_.header;
  bytes.push_back(std::byte{0});
  EXPECT_EQ(parse(bytes).error().kind, ErrorKind::kInvalid);
}

TEST_F(PackTest, RefusesAHeaderWithAnyBitFlipped) {
  for (std::size_t bit = 0; bit < pack_.header.size() * 8; bit += 7) {
    Bytes bytes = pack_.header;
    bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    ASSERT_FALSE(parse(bytes)) << "bit " << bit;
  }
}

TEST_F(PackTest, RefusesAFileThatIsNotAPack) {
  EXPECT_THAT(refusal<std::uint8_t>(0, 'X'), HasSubstr("not a KV pack"));
  EXPECT_FALSE(parse({}));
}

TEST_F(PackTest, RefusesAnotherVersionAndNamesBoth) {
  const std::string message = refusal<std::uint16_t>(8, 3);
  EXPECT_THAT(message, HasSubstr("version is 3"));
  EXPECT_THAT(message, HasSubstr("reads versions 1 to 2"));
  EXPECT_THAT(refusal<std::uint16_t>(8, 0), HasSubstr("version is 0"));
  EXPECT_NE(refusal<std::uint16_t>(8, 1), "") << "the bytes of version 2 are none of version 1";
}

TEST_F(PackTest, RefusesAPreambleInThePlaceOfAHeader) {
  EXPECT_THAT(parse(encode_preamble(pack_.identity, key_)).error().message, HasSubstr("kind"));
}

TEST_F(PackTest, RefusesHeaderLengthsThatAreAbsurdOrWrong) {
  for (const std::uint64_t length : {std::uint64_t{0}, std::uint64_t{1}, kMaxHeaderBytes + 1, ~std::uint64_t{0},
                                     std::uint64_t{pack_.header.size() + 44}}) {
    EXPECT_THAT(refusal(16, length), HasSubstr("header_bytes")) << length;
  }
  EXPECT_FALSE(peek_header_bytes(Bytes(24)));
}

TEST_F(PackTest, RefusesIdentityLengthsThatAreWrong) {
  for (const std::uint32_t length : {0U, 151U, 152U, 227U, 228U, static_cast<std::uint32_t>(pack_.header.size()), ~0U}) {
    EXPECT_NE(refusal(12, length), "") << length;
  }
}

TEST_F(PackTest, RefusesAbsurdCountsBeforeAllocatingForThem) {
  for (const std::uint32_t count : {0U, 299U, 301U, kMaxPackTokens + 1, ~0U}) {
    EXPECT_THAT(refusal(kTokenCount, count), HasSubstr("n_tokens")) << count;
  }
  for (const std::uint16_t count : {0, 513, 0xFFFF}) {
    EXPECT_THAT(refusal(kLayers, count), HasSubstr("n_layers"));
    EXPECT_THAT(refusal(kRuns, count), HasSubstr("n_runs"));
  }
  for (const std::uint32_t count : {0U, 301U, ~0U}) EXPECT_THAT(refusal(kRowCount, count), HasSubstr("n_rows")) << count;
  for (const std::uint32_t count : {0U, kMaxPackKvWidth + 1, ~0U})
    EXPECT_THAT(refusal(kHeads, count), HasSubstr("n_kv_heads"));
  for (const std::uint32_t count : {0U, kMaxPackKvWidth + 1, ~0U}) {
    EXPECT_THAT(refusal(kHeadDim, count), HasSubstr("head_dim"));
    EXPECT_THAT(refusal(kValueDim, count), HasSubstr("head_dim"));
  }
  EXPECT_THAT(refusal(kHeads, kMaxPackKvWidth), HasSubstr("n_kv_heads * head_dim"));
}

TEST_F(PackTest, RefusesCountsThatDisagreeWithTheTable) {
  EXPECT_THAT(refusal<std::uint16_t>(kLayers, 4), testing::Not(testing::IsEmpty()));
  EXPECT_THAT(refusal<std::uint16_t>(kLayers, 2), testing::Not(testing::IsEmpty()));
}

TEST_F(PackTest, RefusesStringsThatAreTooLong) {
  EXPECT_THAT(refusal(kArchitecture, kMaxArchitectureBytes + 1), HasSubstr("architecture"));
  EXPECT_THAT(refusal(kArchitecture, ~0U), HasSubstr("architecture"));
  EXPECT_THAT(refusal(kArchitecture + 4 + 5, kMaxRopeBytes + 1), HasSubstr("rope"));
}

TEST_F(PackTest, RefusesAnUnknownCodec) {
  EXPECT_THAT(refusal<std::uint16_t>(kCodec, 77), HasSubstr("codec"));
}

TEST_F(PackTest, RefusesAnUnknownProvenance) {
  EXPECT_THAT(refusal<std::uint8_t>(kProvenance, 6), HasSubstr("provenance"));
}

TEST_F(PackTest, RefusesWhatItDoesNotSupportByName) {
  EXPECT_THAT(refusal<std::uint16_t>(kArithmetic, 5), HasSubstr("arithmetic class 5"));
  EXPECT_THAT(refusal(kValueDim, 40U), HasSubstr("heads of 20 values of K and 40 of V"));
  const auto refused = [&](const auto& change) {
    const Error error = error_after(change);
    EXPECT_EQ(error.kind, ErrorKind::kInvalid);
    return error.message;
  };
  EXPECT_THAT(refused([](Bytes& bytes) {
                poke<std::uint8_t>(bytes, kLayerKind, 1);
                poke(bytes, kHeads, kMaxStateBytes);
                poke(bytes, kHeadDim, 0U);
                poke(bytes, kValueDim, 0U);
              }),
              HasSubstr("recurrent layers only"));
}

TEST_F(PackTest, RefusesLayersOfDifferentShapesByName) {
  const auto with_second_run = [&](std::uint32_t head_dim) {
    return error_after([&](Bytes& bytes) {
             Bytes run(bytes.begin() + kLayers, bytes.begin() + kArchitecture);
             poke(run, 8, head_dim);
             poke(run, 12, head_dim);
             bytes.insert(bytes.begin() + kArchitecture, run.begin(), run.end());
             poke<std::uint16_t>(bytes, kRuns, 2);
             poke(bytes, 12, static_cast<std::uint32_t>(identity_length() + run.size()));
             poke(bytes, 16, std::uint64_t{bytes.size()});
           })
        .message;
  };
  EXPECT_THAT(with_second_run(40), HasSubstr("layers of attention of different shapes"));
  EXPECT_THAT(with_second_run(20), HasSubstr("have the same shape")) << "one shape has one encoding";
}

TEST_F(PackTest, RefusesRunsOfLayersThatMakeNoSense) {
  EXPECT_THAT(refusal<std::uint8_t>(kLayerKind, 2), HasSubstr("kind is 2"));
  EXPECT_THAT(refusal<std::uint8_t>(kRunReserved, 1), HasSubstr("reserved"));
  EXPECT_THAT(refusal<std::uint8_t>(kLayerKind, 1), HasSubstr("a state has one size"));
  const Error error = error_after([](Bytes& bytes) {
    poke<std::uint8_t>(bytes, kLayerKind, 1);
    poke(bytes, kHeads, kMaxStateBytes + 1);
  });
  EXPECT_THAT(error.message, HasSubstr("state_bytes"));
}

TEST_F(PackTest, RefusesFewerRowsThanTokensUnlessTheyAreStudied) {
  EXPECT_THAT(refusal(kRowCount, 299U), HasSubstr("n_rows is 299, but n_tokens is 300 and provenance proxy"));
}

TEST_F(PackTest, RefusesATuningOrAStudyThatTheProvenanceDoesNotHave) {
  EXPECT_THAT(refusal<std::uint8_t>(kTuning, 1), HasSubstr("tuning is set, but provenance is proxy"));
  EXPECT_THAT(refusal<std::uint8_t>(kStudy, 1), HasSubstr("study is set, but provenance is proxy"));
  EXPECT_THAT(refusal(kProvenance, Provenance::kTuned), HasSubstr("tuning is zero"));
  EXPECT_THAT(refusal(kProvenance, Provenance::kStudied), HasSubstr("study is zero"));
}

TEST_F(PackTest, AcceptsTunedKvAsAnotherPack) {
  PackIdentity tuned = small_identity();
  tuned.provenance = Provenance::kTuned;
  tuned.tuning = hash_of("tuning");
  EXPECT_EQ(parse(build_pack(tuned, key_).header)->identity, tuned);
  EXPECT_THAT(check_offer(small_identity(), tuned, false).error().message,
              HasSubstr("provenance (proxy here, tuned there)"));
}

TEST_F(PackTest, RefusesAnotherBlockLength) {
  EXPECT_THAT(refusal(kBlockTokensField, 128U), HasSubstr("block_tokens"));
}

TEST_F(PackTest, RefusesASplitIfTheProvenanceHasNoMap) {
  EXPECT_THAT(refusal<std::uint8_t>(kSplit, 1), HasSubstr("split is 1, but provenance is proxy"));
}

TEST_F(PackTest, RefusesAMapIfTheProvenanceHasNone) {
  EXPECT_THAT(refusal<std::uint8_t>(kIdentity + 96, 1), HasSubstr("map is set"));
}

TEST_F(PackTest, RefusesMappedKvWithoutAMap) {
  EXPECT_THAT(refusal<std::uint8_t>(kProvenance, static_cast<std::uint8_t>(Provenance::kMapped)), HasSubstr("map is zero"));
}

TEST_F(PackTest, AcceptsMappedKvWithItsMap) {
  PackIdentity identity = small_identity();
  identity.provenance = Provenance::kFused;
  identity.map = hash_of("map");
  identity.split = 2;
  EXPECT_TRUE(parse(build_pack(identity, key_).header));
  identity.split = 3;  // of three layers: nothing would be mapped
  EXPECT_FALSE(check_identity(identity).has_value());
}

TEST_F(PackTest, RefusesAContextIdThatIsNotThatOfTheTokens) {
  EXPECT_THAT(refusal<std::uint8_t>(kIdentity, 0xAA), HasSubstr("context"));
  EXPECT_THAT(refusal(table() - 4, Token{5}), HasSubstr("context")) << "another last token";
}

TEST_F(PackTest, RefusesNegativeTokens) {
  EXPECT_THAT(refusal(table() - 4, Token{-1}), HasSubstr("negative"));
}

TEST_F(PackTest, RefusesAPackIdThatIsNotThatOfTheIdentity) {
  EXPECT_THAT(refusal<std::uint8_t>(kPackId, 0xAA), HasSubstr("pack id"));
  EXPECT_THAT(refusal<std::uint8_t>(kIdentity + 64, 0xAA), HasSubstr("pack id")) << "other weights";
}

TEST_F(PackTest, RefusesAHeaderWhoseOffsetsOverlap) {
  EXPECT_THAT(refusal(table() + 44, std::uint64_t{0}), HasSubstr("block 1: offset"));
  EXPECT_THAT(refusal(table() + 44, pack_.entries[1].offset - 1), HasSubstr("block 1: offset"));
}

TEST_F(PackTest, RefusesAHeaderWhoseOffsetsLeaveGapsOrPointOutside) {
  EXPECT_THAT(refusal(table() + 44, pack_.entries[1].offset + 1), HasSubstr("block 1: offset"));
  EXPECT_THAT(refusal(table() + 44, ~std::uint64_t{0}), HasSubstr("block 1: offset"));
}

TEST_F(PackTest, RefusesAHeaderWhoseOffsetsAreOutOfOrder) {
  const Error error = error_after([&](Bytes& bytes) {
    poke(bytes, table(), pack_.entries[4].offset);
    poke(bytes, table() + 4 * 44, pack_.entries[0].offset);
  });
  EXPECT_THAT(error.message, HasSubstr("block 0: offset"));
}

TEST_F(PackTest, RefusesBlockLengthsThatAreNotTheCodecs) {
  EXPECT_THAT(refusal(table() + 8, pack_.entries[0].bytes - 1), HasSubstr("block 0: bytes"));
  EXPECT_THAT(refusal(table() + 8, ~0U), HasSubstr("block 0: bytes"));
  EXPECT_THAT(refusal(table() + 8, 0U), HasSubstr("block 0: bytes"));
}

TEST_F(PackTest, RefusesASignatureByAnotherKeyAndNamesBoth) {
  const SigningKey other = SigningKey::generate().value();
  const auto parsed = parse_header(pack_.header, other.public_key());
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().kind, ErrorKind::kMismatch);
  EXPECT_THAT(parsed.error().message, HasSubstr(key_.public_key().hex()));
  EXPECT_THAT(parsed.error().message, HasSubstr(other.public_key().hex()));
}

TEST_F(PackTest, RefusesAForgedSignerName) {
  const SigningKey forger = SigningKey::generate().value();
  Bytes bytes = build_pack(small_identity(), forger).header;
  std::memcpy(bytes.data() + kSigner, key_.public_key().bytes.data(), 32);
  EXPECT_EQ(parse(bytes).error().kind, ErrorKind::kMismatch);
}

TEST_F(PackTest, RefusesATableChangedAfterSigning) {
  const Error error = error_after([&](Bytes& bytes) { bytes[table() + 12] ^= std::byte{1}; });
  EXPECT_EQ(error.kind, ErrorKind::kMismatch);
}

class EntryTest : public PackTest {
 protected:
  EntryTest() : signed_(sign_entry(pack_.identity.id(), 3, pack_.entries[3], key_)) {}
  Result<SignedEntry> parse_one(const Bytes& bytes) const { return parse_entry(bytes, pack_.identity, key_.public_key()); }
  SignedEntry signed_;
};

TEST_F(EntryTest, RoundTrips) {
  const Bytes bytes = encode_entry(signed_);
  EXPECT_EQ(bytes.size(), kSignedEntryBytes);
  const auto entry = parse_one(bytes);
  ASSERT_TRUE(entry) << entry.error().message;
  EXPECT_EQ(entry->index, 3U);
  EXPECT_EQ(entry->entry, pack_.entries[3]);
}

TEST_F(EntryTest, CannotBeReplayedForAnotherPack) {
  PackIdentity other = pack_.identity;
  other.model.weights = hash_of("other weights");
  const auto entry = parse_entry(encode_entry(signed_), other, key_.public_key());
  ASSERT_FALSE(entry);
  EXPECT_EQ(entry.error().kind, ErrorKind::kMismatch);
}

TEST_F(EntryTest, CannotBeReplayedForAnotherBlockOfItsPack) {
  SignedEntry moved = signed_;
  moved.index = 5;
  moved.entry.offset = pack_.entries[5].offset;
  EXPECT_EQ(parse_one(encode_entry(moved)).error().kind, ErrorKind::kMismatch);
}

TEST_F(EntryTest, IsRefusedWithAnotherOffsetOrLength) {
  const BlockEntry& honest = pack_.entries[3];
  for (const BlockEntry& entry :
       {BlockEntry{honest.offset + 1, honest.bytes, honest.hash}, BlockEntry{honest.offset, honest.bytes - 1, honest.hash},
        BlockEntry{0, ~0U, honest.hash}}) {
    EXPECT_EQ(parse_one(encode_entry(sign_entry(pack_.identity.id(), 3, entry, key_))).error().kind, ErrorKind::kInvalid);
  }
}

TEST_F(EntryTest, IsRefusedForABlockOutsideThePack) {
  const auto last = static_cast<std::uint32_t>(pack_.identity.n_blocks());
  for (const std::uint32_t index : {last, 0x80000003U, ~0U}) {
    const Bytes bytes = encode_entry(sign_entry(pack_.identity.id(), index, pack_.entries[3], key_));
    EXPECT_THAT(parse_one(bytes).error().message, HasSubstr("index"));
  }
}

TEST_F(EntryTest, IsRefusedWithAnyBitFlipped) {
  const Bytes good = encode_entry(signed_);
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    Bytes bytes = good;
    bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    ASSERT_FALSE(parse_one(bytes)) << "bit " << bit;
  }
}

TEST_F(EntryTest, IsRefusedIfTruncatedOrTooLong) {
  for (const std::size_t length : {0UL, 1UL, kSignedEntryBytes - 1, kSignedEntryBytes + 1}) {
    Bytes bytes = encode_entry(signed_);
    bytes.resize(length);
    EXPECT_EQ(parse_one(bytes).error().kind, ErrorKind::kInvalid);
  }
}

class PreambleTest : public PackTest {};

TEST_F(PreambleTest, RoundTrips) {
  EXPECT_EQ(parse_preamble(encode_preamble(pack_.identity, key_), key_.public_key()).value(), pack_.identity);
}

TEST_F(PreambleTest, IsRefusedWithAnyBitFlippedOrTruncatedAnywhere) {
  const Bytes good = encode_preamble(pack_.identity, key_);
  for (std::size_t byte = 0; byte < good.size(); ++byte) {
    Bytes bytes = good;
    bytes[byte] ^= std::byte{0x10};
    ASSERT_FALSE(parse_preamble(bytes, key_.public_key())) << byte;
    ASSERT_FALSE(parse_preamble(ByteView(good).first(byte), key_.public_key())) << byte;
  }
}

TEST_F(PreambleTest, HeadersAndPreamblesAreNotInterchangeable) {
  EXPECT_FALSE(parse_preamble(pack_.header, key_.public_key()));
  EXPECT_FALSE(parse(encode_preamble(pack_.identity, key_)));
}

TEST_F(PreambleTest, OfAnotherKeyIsRefused) {
  const auto other = SigningKey::generate().value();
  EXPECT_EQ(parse_preamble(encode_preamble(pack_.identity, other), key_.public_key()).error().kind, ErrorKind::kMismatch);
}

}  // namespace
}  // namespace celslm
