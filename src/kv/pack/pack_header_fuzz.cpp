// Untrusted headers and preambles. Two hashes and a signature would reject most mutated inputs early, so each input is
// parsed unchanged and once more with correct lengths and ids.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kv/pack/pack.h"
#include "kv/pack/pack_layout.h"

namespace celslm {
namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

template <typename T>
void poke(Bytes& bytes, std::size_t offset, const T& value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

// Corrects the lengths and the ids that depend on other fields.
void repair(Bytes& bytes) {
  const auto version = static_cast<std::uint16_t>(bytes.size() > 8 ? bytes[8] : std::byte{0});
  const std::size_t fixed = fixed_identity_bytes(version);
  if (bytes.size() < kIdentityOffset + fixed) return;
  poke(bytes, 16, std::uint64_t{bytes.size()});
  ByteReader in(ByteView(bytes).subspan(12));
  const std::size_t length = std::min<std::size_t>(in.u32(), bytes.size() - kIdentityOffset);
  const ByteView identity = ByteView(bytes).subspan(kIdentityOffset, length);
  ByteReader counts(identity.first(std::min(length, fixed)));
  counts.bytes(fixed - 4);
  const std::size_t n_tokens = std::min<std::size_t>(counts.u32(), length / sizeof(Token));
  Hash256 tokenizer;
  std::memcpy(tokenizer.bytes.data(), bytes.data() + kIdentityOffset + 32, 32);
  std::vector<Token> tokens(n_tokens);
  if (n_tokens > 0) std::memcpy(tokens.data(), identity.last(n_tokens * sizeof(Token)).data(), n_tokens * sizeof(Token));
  poke(bytes, kIdentityOffset, context_id(tokenizer, tokens));
  poke(bytes, kHeaderPrefixBytes, pack_id_of(identity, version));
}

void check(ByteView bytes) {
  const auto header = parse_header_unverified(bytes);
  if (!header) return;
  const PackIdentity& identity = header->identity;
  require(check_identity(identity).has_value());
  require(header_bytes(identity) == bytes.size());
  require(peek_header_bytes(bytes).value() == bytes.size());
  require(header->blocks.size() == static_cast<std::size_t>(identity.n_blocks()));
  std::uint64_t end = 0;
  for (const BlockEntry& entry : header->blocks) {
    require(entry.offset == end && entry.bytes > 0);
    end += entry.bytes;
  }
  require(end == header->block_region_bytes());
  ByteWriter again;
  write_identity(identity, again);
  require(std::ranges::equal(again.data(), bytes.subspan(kIdentityOffset, again.data().size())));
}

}  // namespace
}  // namespace celslm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace celslm;
  const ByteView input = std::as_bytes(std::span(data, size));
  Bytes bytes(input.begin(), input.end());
  check(bytes);
  // The input is not signed by this key, so it must be refused.
  if (parse_header(bytes, PublicKey{}) || parse_preamble(bytes, PublicKey{})) std::abort();
  repair(bytes);
  check(bytes);
  if (parse_preamble(bytes, PublicKey{})) std::abort();
  return 0;
}
