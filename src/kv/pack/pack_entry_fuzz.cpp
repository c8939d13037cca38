// Untrusted signed entries, unchanged and with a valid signature, as a buggy cloud with the right key might send them, of an
// ordinary and of a studied pack; and untrusted blocks of places.
#include <cstdlib>

#include "kv/pack/pack.h"
#include "kv/pack/test_support.h"

namespace celslm {
namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

struct Fixture {
  SigningKey key = SigningKey::generate().value();
  PackIdentity identity;
  Hash256 pack_id = identity.id();
};

void check(const Fixture& fixture, const SignedEntry& entry) {
  const auto parsed = parse_entry(encode_entry(entry), fixture.identity, fixture.pack_id, fixture.key.public_key());
  const bool exists = entry.index < static_cast<std::uint32_t>(fixture.identity.n_blocks());
  const auto index = static_cast<int>(entry.index);
  const bool right = exists && block_offset(fixture.identity, index).contain(entry.entry.offset) &&
                     block_bytes(fixture.identity, index).contain(entry.entry.bytes);
  require(parsed.has_value() == right);
  if (parsed) require(parsed->index == entry.index && parsed->entry == entry.entry);
}

// The input as an entry, unchanged and with a signature of its own.
void run(const Fixture& fixture, ByteView bytes) {
  require(!parse_entry(bytes, fixture.identity, fixture.pack_id, fixture.key.public_key()));
  ByteReader in(bytes);
  const std::uint32_t index = in.u32();
  BlockEntry entry{.offset = in.u64(), .bytes = in.u32()};
  if (const ByteView hash = in.bytes(32); !hash.empty()) std::memcpy(entry.hash.bytes.data(), hash.data(), hash.size());
  check(fixture, sign_entry(fixture.pack_id, index, entry, fixture.key));
  // Once more with a valid offset and length, so that accepted entries are covered too.
  const auto placed = static_cast<int>(index % static_cast<std::uint32_t>(fixture.identity.n_blocks()));
  entry.offset = block_offset(fixture.identity, placed).most;
  entry.bytes = static_cast<std::uint32_t>(block_bytes(fixture.identity, placed).most);
  check(fixture, sign_entry(fixture.pack_id, static_cast<std::uint32_t>(placed), entry, fixture.key));
}

void check_places(const Fixture& fixture, ByteView bytes) {
  const PackIdentity& identity = fixture.identity;
  const int index = block_index(identity, {1, BlockKind::kPlaces, 0});
  const auto places = decode_places(identity, VerifiedBlock::make(index, 0, Bytes(bytes.begin(), bytes.end())));
  if (!places) return;
  for (const std::int32_t position : places->positions) require(position >= 0 && position < identity.n_tokens());
  for (const float mass : places->log_mass) require(mass >= -32.0F && mass <= 32.0F);
  require(std::ranges::equal(encode_places(*places), bytes));
}

}  // namespace
}  // namespace celslm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace celslm;
  static const Fixture ordinary{.identity = testing_support::small_identity()};
  static const Fixture studied{.identity = testing_support::studied_identity(12)};
  const ByteView bytes = std::as_bytes(std::span(data, size));
  run(ordinary, bytes);
  run(studied, bytes);
  check_places(studied, bytes);
  return 0;
}
