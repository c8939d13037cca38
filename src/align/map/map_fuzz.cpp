// Layer maps from strangers. A hash at the end hides the parser from random bytes, so each input is tried as it is, and once
// more with the hash put right.
#include <cstdlib>
#include <cstring>

#include "align/map/map_codec.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void check(celslm::ByteView bytes) {
  const auto map = celslm::parse_map(bytes);
  if (!map) return;
  require(celslm::check_map(*map).has_value());
  const auto again = celslm::encode_map(*map);
  require(again.has_value());
  // Rounded values need not be the ones that rounding would give (a q8 scale may be larger than need be); exact ones are.
  if (map->precision == celslm::MapPrecision::kF32) require(std::ranges::equal(*again, bytes));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace celslm;
  const ByteView input = std::as_bytes(std::span(data, size));
  check(input);
  if (size < kMapHashBytes) return 0;
  Bytes bytes(input.begin(), input.end());
  const Hash256 hash = map_hash(ByteView(bytes).first(size - kMapHashBytes));
  std::memcpy(bytes.data() + size - kMapHashBytes, hash.bytes.data(), kMapHashBytes);
  check(bytes);
  return 0;
}
