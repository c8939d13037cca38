// Blocks from untrusted peers, for every codec. An input is a codec, a shape, and the bytes of a block, which are also read
// as floating-point values to be encoded.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kv/codec/codec.h"

namespace celslm {
namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void check_decode(const Codec& codec, const BlockShape& shape, ByteView bytes) {
  std::vector<float> values(shape.values());
  if (!codec.decode(shape, bytes, values)) return;
  require(std::ranges::all_of(values, [](float v) { return std::isfinite(v); }));
  const auto again = codec.encode(shape, values);
  if (!codec.exact_for()) return;  // rounded once more, values next to the limit may pass it
  require(again.has_value());
  std::vector<float> twice(values.size());
  require(codec.decode(shape, *again, twice).has_value() && twice == values);
}

void check_encode(const Codec& codec, const BlockShape& shape, ByteView bytes) {
  std::vector<float> values(shape.values());
  std::memcpy(values.data(), bytes.data(), std::min(bytes.size(), values.size() * sizeof(float)));
  const auto encoded = codec.encode(shape, values);
  if (!encoded) return;
  require(codec.encoded_bytes(shape).contain(encoded->size()));
  require(std::ranges::all_of(values, [](float v) { return std::isfinite(v); }));
  std::vector<float> decoded(values.size());
  require(codec.decode(shape, *encoded, decoded).has_value());
  require(codec.encode(shape, values).value() == *encoded);
}

}  // namespace
}  // namespace celslm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace celslm;
  ByteReader in(std::as_bytes(std::span(data, size)));
  const Codec& codec = *all_codecs()[in.u8() % all_codecs().size()];
  const BlockShape shape{.n_tokens = in.u8() % 96, .n_kv_heads = in.u8() % 4, .head_dim = in.u8() % 80};
  const ByteView bytes = in.bytes(in.remaining());
  check_decode(codec, shape, bytes);
  const ByteBounds bounds = codec.encoded_bytes(shape);
  Bytes fitted(bytes.begin(), bytes.end());  // the right length, so that the values are looked at
  fitted.resize(std::clamp<std::size_t>(fitted.size(), bounds.least, bounds.most));
  check_decode(codec, shape, fitted);
  if (!bytes.empty() && shape.values() > 0) check_encode(codec, shape, bytes);
  return 0;
}
