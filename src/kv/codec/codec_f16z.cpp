// f16 without loss in fewer bytes: of a number's two bytes the low one, most of the mantissa, is noise; the high one, sign
// and exponent, is much alike within a channel. High bytes of channels alike share a stream with a Huffman table.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "kv/codec/codecs.h"
#include "kv/codec/symbols.h"
#include "model/numeric/convert.h"

namespace celslm {
namespace {

// Of a channel: 2 * its mean exponent, rounded; odd where most of its numbers are negative.
constexpr std::size_t kClasses = 62;

// Channels by class, in order.
using Members = std::array<std::vector<std::size_t>, kClasses>;

Members members_of(std::span<const std::uint8_t> classes) {
  Members out;
  for (std::size_t c = 0; c < classes.size(); ++c) out[classes[c]].push_back(c);
  return out;
}

// numbers: [n][channels], two bytes each, the low one first.
std::uint8_t class_of(ByteView numbers, std::size_t channels, std::size_t channel) {
  const std::size_t n = numbers.size() / 2 / channels;
  std::size_t exponents = 0;
  std::size_t negative = 0;
  for (std::size_t t = 0; t < n; ++t) {
    const auto high = static_cast<unsigned>(numbers[2 * (t * channels + channel) + 1]);
    exponents += high >> 2 & 31U;
    negative += high >> 7;
  }
  return static_cast<std::uint8_t>(2 * ((exponents + n / 2) / n) + (2 * negative > n ? 1 : 0));
}

class LosslessCodec final : public Codec {
 public:
  CodecId id() const override { return CodecId::kF16z; }
  std::string_view name() const override { return "f16z"; }
  std::optional<KvType> exact_for() const override { return KvType::kF16; }

  ByteBounds encoded_bytes(const BlockShape& shape) const override {
    const std::size_t low = shape.values();
    const std::size_t fixed = low + channels_of(shape);
    return {fixed, fixed + max_streams_bytes(low)};
  }

  Result<Bytes> encode(const BlockShape& shape, std::span<const float> values, ChannelWeights weights) const override {
    CELSLM_CHECK_OK(check_encode(shape, values, weights));
    CELSLM_TRY(const Bytes numbers, f16_codec().encode(shape, values, weights));
    const std::size_t channels = channels_of(shape);
    std::vector<std::uint8_t> classes(channels);
    for (std::size_t c = 0; c < channels; ++c) classes[c] = class_of(numbers, channels, c);
    ByteWriter out;
    out.bytes(std::as_bytes(std::span(classes)));
    for (std::size_t i = 0; i < values.size(); ++i) out.u8(static_cast<std::uint8_t>(numbers[2 * i]));
    StreamWriter streams(out);
    for (const auto& members : members_of(classes)) {
      if (members.empty()) continue;
      Bytes high;
      high.reserve(members.size() * static_cast<std::size_t>(shape.n_tokens));
      for (std::size_t row = 0; row < values.size(); row += channels) {
        for (const std::size_t c : members) high.push_back(numbers[2 * (row + c) + 1]);
      }
      CELSLM_CHECK_OK(streams.write(high));
    }
    return out.take();
  }

  Status decode(const BlockShape& shape, ByteView bytes, std::span<float> values) const override {
    CELSLM_CHECK_OK(check_decode(*this, shape, bytes, values));
    ByteReader in(bytes);
    CELSLM_TRY(const auto classes, read_classes(in, channels_of(shape)));
    const ByteView low = in.bytes(values.size());
    Bytes numbers(2 * values.size());
    for (std::size_t i = 0; i < low.size(); ++i) numbers[2 * i] = low[i];
    if (auto status = read_high_bytes(in, classes, numbers); !status) return wrap(std::move(status).error(), "f16z block");
    if (in.remaining() > 0) return fail(ErrorKind::kInvalid, "f16z block: {} bytes behind the last stream", in.remaining());
    return f16_codec().decode(shape, numbers, values);
  }

 private:
  static std::size_t channels_of(const BlockShape& shape) {
    return static_cast<std::size_t>(shape.n_kv_heads) * static_cast<std::size_t>(shape.head_dim);
  }

  static Result<std::vector<std::uint8_t>> read_classes(ByteReader& in, std::size_t channels) {
    std::vector<std::uint8_t> out(channels);
    for (std::uint8_t& row_class : out) row_class = in.u8();
    if (std::ranges::max(out) < kClasses) return out;
    return fail(ErrorKind::kInvalid, "f16z block: no channel has the class {}", std::ranges::max(out));
  }

  static Status read_high_bytes(ByteReader& in, std::span<const std::uint8_t> classes, Bytes& numbers) {
    const std::size_t channels = classes.size();
    StreamReader streams(in);
    for (const auto& members : members_of(classes)) {
      if (members.empty()) continue;
      Bytes high(numbers.size() / 2 / channels * members.size());
      CELSLM_CHECK_OK(streams.read(high));
      const std::byte* next = high.data();
      for (std::size_t row = 0; row < numbers.size() / 2; row += channels) {
        for (const std::size_t c : members) numbers[2 * (row + c) + 1] = *next++;
      }
    }
    return {};
  }
};

}  // namespace

const Codec& f16z_codec() {
  static constexpr LosslessCodec codec;
  return codec;
}

}  // namespace celslm
