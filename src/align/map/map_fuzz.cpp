// Untrusted layer maps. The hash at the end would reject every mutated input before the rest is checked, so each input is
// parsed unchanged and once more with a correct hash.
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
  // Only f32 maps re-encode to the same bytes: a q8 scale, for example, may be larger than the one that encoding chooses.
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
