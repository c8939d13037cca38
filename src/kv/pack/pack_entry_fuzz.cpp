// Untrusted signed entries, unchanged and with a valid signature, as a buggy cloud with the right key might send them.
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
  PackIdentity identity = testing_support::small_identity();
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

}  // namespace
}  // namespace celslm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace celslm;
  static const Fixture fixture;
  const ByteView bytes = std::as_bytes(std::span(data, size));
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
  return 0;
}
