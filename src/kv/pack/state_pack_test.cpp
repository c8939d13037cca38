// Packs of one state, whose inside is libllama's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/file.h"
#include "kv/pack/pack_inspect.h"
#include "kv/pack/test_support.h"
#include "tests/support/temporary_folder.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing_support::small_identity;

PackIdentity state_identity() {
  PackIdentity out = small_identity(CodecId::kOpaque, 100);
  out.model.architecture = "mamba";
  out.model.n_layers = 1;
  out.model.n_kv_heads = 2;  // KiB
  out.model.head_dim = 20;   // bytes
  out.model.rope = "libllama.so.0.7.0 0123456789abcdef, KV f16";
  out.model.arithmetic = Arithmetic::kLibllama;
  return out;
}

class StatePackTest : public testing::Test {
 protected:
  // Parts of these lengths, one after the other.
  Bytes header(const std::vector<std::uint32_t>& lengths) {
    std::vector<BlockEntry> entries;
    std::uint64_t offset = 0;
    for (const std::uint32_t bytes : lengths) {
      entries.push_back({.offset = offset, .bytes = bytes, .hash = hash_of("part")});
      offset += bytes;
    }
    return encode_header(identity_, entries, key_);
  }
  std::string refusal(const std::function<void(PackIdentity&)>& change) const {
    PackIdentity identity = identity_;
    change(identity);
    const Status checked = check_identity(identity);
    EXPECT_FALSE(checked);
    return checked ? "" : checked.error().message;
  }

  const SigningKey key_ = SigningKey::generate().value();
  const PackIdentity identity_ = state_identity();
  const std::vector<std::uint32_t> lengths_{10, 11, 10, 11, 10, 11, 10};  // ceil(100 / 16) parts
};

TEST_F(StatePackTest, HasAPartForEverySixteenTokensOfOnePlane) {
  ASSERT_EQ(identity_.n_blocks(), 7);
  for (int i = 0; i < 7; ++i) EXPECT_EQ(block_index(identity_, block_ref(identity_, i)), i);
  EXPECT_EQ(describe(block_ref(identity_, 3)), "part 3 of the state");
}

TEST_F(StatePackTest, IsReadAsItWasWritten) {
  const auto read = parse_header(header(lengths_), key_.public_key());
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->identity, identity_);
  EXPECT_EQ(read->block_region_bytes(), 73U);
}

TEST_F(StatePackTest, TheFirstPartHasRoomForWhatDoesNotGrowWithTheTokens) {
  auto lengths = lengths_;
  lengths[0] = 16 * 20 + 2 * 1024 + (64U << 10);
  EXPECT_TRUE(parse_header(header(lengths), key_.public_key()));
  ++lengths[0];
  EXPECT_FALSE(parse_header(header(lengths), key_.public_key()));
}

TEST_F(StatePackTest, APartIsNeitherEmptyNorLargerThanItsTokensCanBe) {
  for (const std::uint32_t length : {0U, 16U * 20 + 1, 0xFFFFFFFFU}) {
    auto lengths = lengths_;
    lengths[2] = length;
    EXPECT_FALSE(parse_header(header(lengths), key_.public_key())) << length;
  }
}

TEST_F(StatePackTest, StatesAndTheirArithmeticBelongTogether) {
  EXPECT_THAT(refusal([](PackIdentity& i) { i.model.arithmetic = Arithmetic::kCpu; }), HasSubstr("is not a state"));
  EXPECT_THAT(refusal([](PackIdentity& i) { i.codec = CodecId::kF16; }), HasSubstr("is a state"));
}

TEST_F(StatePackTest, AStateHasNoLayersAndNothingIsMadeOfIt) {
  EXPECT_THAT(refusal([](PackIdentity& i) { i.model.n_layers = 2; }), HasSubstr("one layer"));
  EXPECT_THAT(refusal([](PackIdentity& i) { i.model.head_dim = (4U << 20) + 1; }), HasSubstr("bytes of a token"));
  EXPECT_THAT(refusal([](PackIdentity& i) {
                i.provenance = Provenance::kTuned;
                i.tuning = hash_of("tuning");
              }),
              HasSubstr("provenance proxy"));
}

TEST_F(StatePackTest, OfAnotherBuildItDiffersInTheLibrary) {
  PackIdentity other = identity_;
  other.model.rope = "libllama.so.0.8.0 fedcba9876543210, KV f16";
  EXPECT_THAT(identity_.difference(other), HasSubstr("libllama (libllama.so.0.7.0"));
  EXPECT_NE(identity_.id(), other.id());
  EXPECT_FALSE(check_offer(identity_, other, false));
}

TEST_F(StatePackTest, IsDescribedWithoutBeingRead) {
  const testing_support::TemporaryFolder folder;
  Bytes file = encode_header(
      identity_,
      [&] {
        std::vector<BlockEntry> entries;
        for (std::uint64_t i = 0; i < 7; ++i) entries.push_back(make_entry(i, Bytes(1, static_cast<std::byte>(i))));
        return entries;
      }(),
      key_);
  for (int i = 0; i < 7; ++i) file.push_back(static_cast<std::byte>(i));
  ASSERT_TRUE(write_file_atomically(folder.path() / "p", file));
  const auto text = describe_pack(folder.path() / "p", key_.public_key());
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_THAT(*text, HasSubstr("7 parts of a state of 7 bytes"));
  EXPECT_THAT(*text, HasSubstr("every block matches its hash"));
}

TEST_F(StatePackTest, ItsBlocksHaveNoValues) {
  std::vector<float> values(1);
  EXPECT_FALSE(opaque_codec().decode({.n_tokens = 1, .n_kv_heads = 1, .head_dim = 1}, Bytes(1), values));
  EXPECT_FALSE(opaque_codec().encode({.n_tokens = 1, .n_kv_heads = 1, .head_dim = 1}, values));
}

}  // namespace
}  // namespace celslm
