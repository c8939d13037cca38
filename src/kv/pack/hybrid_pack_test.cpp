// Packs of models with recurrent layers: KV of the layers that have rows, and one state for each of the others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>

#include "core/file.h"
#include "kv/pack/pack_inspect.h"
#include "kv/pack/test_support.h"
#include "tests/support/temporary_folder.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing_support::build_pack;
using testing_support::BuiltPack;
using testing_support::hybrid_identity;

std::string refusal(const std::function<void(PackIdentity&)>& change) {
  PackIdentity identity = hybrid_identity();
  change(identity);
  const Status checked = check_identity(identity);
  return checked ? "" : checked.error().message;
}

class HybridPackTest : public testing::Test {
 protected:
  const SigningKey key_ = SigningKey::generate().value();
};

TEST_F(HybridPackTest, ARecurrentLayerHasOneBlock) {
  const PackIdentity identity = hybrid_identity();
  const std::vector<std::string> wanted{"layer 0 state",     "layer 1 state",     "layer 2 K chunk 0", "layer 2 K chunk 1",
                                        "layer 2 V chunk 0", "layer 2 V chunk 1", "layer 3 state",     "layer 4 K chunk 0",
                                        "layer 4 K chunk 1", "layer 4 V chunk 0", "layer 4 V chunk 1"};
  ASSERT_EQ(identity.n_blocks(), std::ssize(wanted));
  for (int i = 0; i < identity.n_blocks(); ++i) {
    const BlockRef ref = block_ref(identity, i);
    EXPECT_EQ(describe(ref), wanted[static_cast<std::size_t>(i)]);
    EXPECT_EQ(block_index(identity, ref), i);
  }
}

TEST_F(HybridPackTest, IsReadAsItWasWritten) {
  for (const Codec* codec : all_codecs()) {
    const BuiltPack pack = build_pack(hybrid_identity(codec->id()), key_);
    const auto read = parse_header(pack.header, key_.public_key());
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->identity, pack.identity);
    EXPECT_EQ(read->blocks, pack.entries);
    EXPECT_EQ(header_bytes(pack.identity), pack.header.size());
    for (int i = 0; i < pack.identity.n_blocks(); ++i)
      EXPECT_TRUE(check_bounds(pack.identity, i, pack.entries[static_cast<std::size_t>(i)])) << i;
    EXPECT_TRUE(block_region_bytes(pack.identity).contain(read->block_region_bytes()));
  }
}

// The runs of layers as docs/kv-pack-format.md has them: two of states, one of attention, and again.
TEST_F(HybridPackTest, StatesItsLayersInRuns) {
  const Bytes header = build_pack(hybrid_identity(), key_).header;
  const std::size_t identity = 88;
  std::uint16_t n_runs = 0;
  std::memcpy(&n_runs, header.data() + identity + 198, sizeof n_runs);
  ASSERT_EQ(n_runs, 4);
  const std::vector<std::vector<int>> wanted{{2, 1, 24, 0, 0}, {1, 0, 2, 20, 20}, {1, 1, 24, 0, 0}, {1, 0, 2, 20, 20}};
  for (std::size_t run = 0; run < wanted.size(); ++run) {
    const std::byte* at = header.data() + identity + 212 + 16 * run;
    std::vector<int> got{std::to_integer<int>(at[0]) + 256 * std::to_integer<int>(at[1]), std::to_integer<int>(at[2])};
    for (int i = 0; i < 3; ++i) {
      std::uint32_t size = 0;
      std::memcpy(&size, at + 4 + 4 * i, sizeof size);
      got.push_back(static_cast<int>(size));
    }
    EXPECT_EQ(got, wanted[run]) << run;
  }
}

TEST_F(HybridPackTest, HasTheSameBytesOnEveryMachine) {
  EXPECT_EQ(hybrid_identity().id().hex(), "b3838499a8c3dbbea6cb66bc64a46ebafdbb56954c08f363c3c48f645ac96b6a");
  const std::vector<float> state{0.0F, -1.5F, 0x1p-20F, 3.0e10F, 1.0F / 3.0F, -0.0F};
  EXPECT_EQ(hash_of(encode_layer_state(state)).hex(), "eaf5470f938d3b5f4f59dd60fcc01c5ac61b496b012cfaface8021f4391d1927");
}

TEST_F(HybridPackTest, OtherStatesAreAnotherModelAndAnotherPack) {
  const PackIdentity identity = hybrid_identity();
  PackIdentity other = identity;
  other.model.states[3] = 48;
  EXPECT_NE(other.id(), identity.id());
  EXPECT_NE(other.model.id(), identity.model.id());
  EXPECT_THAT(check_offer(identity, other, false).error().message, HasSubstr("states"));
}

TEST_F(HybridPackTest, RefusesStatesThatMakeNoSense) {
  EXPECT_EQ(refusal([](PackIdentity&) {}), "");
  EXPECT_THAT(refusal([](PackIdentity& of) { of.model.states.pop_back(); }), HasSubstr("4 entries, but n_layers is 5"));
  EXPECT_THAT(refusal([](PackIdentity& of) { of.model.states.assign(5, 0); }), HasSubstr("every layer has rows"));
  EXPECT_THAT(refusal([](PackIdentity& of) { of.model.states[0] = 26; }), HasSubstr("state_bytes is 26"));
  EXPECT_THAT(refusal([](PackIdentity& of) { of.model.states[0] = kMaxStateBytes + 4; }), HasSubstr("state_bytes"));
  EXPECT_THAT(refusal([](PackIdentity& of) { of.version = 1; }), HasSubstr("version 2"));
}

TEST_F(HybridPackTest, RefusesWhatIsNotTheModelsOwnKv) {
  EXPECT_THAT(refusal([](PackIdentity& of) { set_study(of, {.id = hash_of("study"), .n_rows = 7}); }),
              HasSubstr("the model's own KV"));
  EXPECT_THAT(refusal([](PackIdentity& of) {
                of.provenance = Provenance::kTuned;
                of.tuning = hash_of("tuning");
              }),
              HasSubstr("the model's own KV"));
}

TEST_F(HybridPackTest, RefusesAStateThatIsNone) {
  BuiltPack pack = build_pack(hybrid_identity(), key_);
  const auto refusal = [&](int index, Bytes bytes) {
    const auto block = VerifiedBlock::make(index, 0, std::move(bytes));
    const auto state = decode_layer_state(pack.identity, block);
    return state ? "" : state.error().message;
  };
  EXPECT_EQ(refusal(1, pack.blocks[1]), "");
  EXPECT_THAT(refusal(2, pack.blocks[2]), HasSubstr("layer 2 K chunk 0 is no state"));
  EXPECT_THAT(refusal(1, Bytes(20)), HasSubstr("layer 1 state has 20 bytes; expected 24"));
  for (const float value : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
    EXPECT_THAT(refusal(6, encode_layer_state(std::vector<float>{1, 2, 3, 4, 5, value})), HasSubstr("infinity or NaN"));
  std::vector<float> values(6);
  EXPECT_FALSE(decode_block(pack.identity, pack.checked(1), values)) << "a state has no rows";
}

TEST_F(HybridPackTest, RefusesATableWhoseStateHasAnotherLength) {
  BuiltPack pack = build_pack(hybrid_identity(), key_);
  pack.entries[1].bytes += 4;
  for (std::size_t i = 2; i < pack.entries.size(); ++i) pack.entries[i].offset += 4;
  const auto read = parse_header(encode_header(pack.identity, pack.entries, key_), key_.public_key());
  ASSERT_FALSE(read);
  EXPECT_THAT(read.error().message, HasSubstr("block 1: bytes is 28; expected 24"));
}

TEST_F(HybridPackTest, IsShownWithItsStates) {
  const testing_support::TemporaryFolder folder;
  const BuiltPack pack = build_pack(hybrid_identity(), key_);
  const auto path = folder.path() / "hybrid.pack";
  ASSERT_TRUE(write_file_atomically(path, pack.file()));
  const auto shown = describe_pack(path, key_.public_key());
  ASSERT_TRUE(shown) << shown.error().message;
  EXPECT_THAT(*shown, HasSubstr("3 of recurrent layers, 72 bytes"));
  EXPECT_THAT(*shown, HasSubstr("16.00 bits per value"));
  EXPECT_THAT(*shown, HasSubstr("every block matches its hash and decodes"));
}

}  // namespace
}  // namespace celslm
