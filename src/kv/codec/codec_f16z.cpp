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

// The high bytes of a block, as its streams have them.
class HighBytes {
 public:
  static Result<HighBytes> read(std::span<const std::uint8_t> classes, std::size_t n_tokens, ByteReader& in) {
    HighBytes out;
    StreamReader streams(in);
    for (auto& members : members_of(classes)) {
      if (members.empty()) continue;
      Stream& stream = out.streams_.emplace_back(Bytes(n_tokens * members.size()), members.size());
      CELSLM_CHECK_OK(streams.read(stream.bytes));
      out.channels_.insert(out.channels_.end(), members.begin(), members.end());
    }
    return out;
  }

  // Of token t: [channels].
  void row(std::size_t t, std::byte* out) const {
    const std::uint32_t* channel = channels_.data();
    for (const auto& [bytes, n] : streams_) {
      const std::byte* from = bytes.data() + t * n;
      for (std::size_t i = 0; i < n; ++i) out[*channel++] = from[i];
    }
  }

 private:
  struct Stream {
    Bytes bytes;        // [n_tokens][n]
    std::size_t n = 0;  // channels
  };
  std::vector<Stream> streams_;          // of the classes present, ascending
  std::vector<std::uint32_t> channels_;  // in the order of the streams
};

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
    auto high = HighBytes::read(classes, static_cast<std::size_t>(shape.n_tokens), in);
    if (!high) return wrap(std::move(high).error(), "f16z block");
    if (in.remaining() > 0) return fail(ErrorKind::kInvalid, "f16z block: {} bytes behind the last stream", in.remaining());
    if (join(low, *high, classes.size(), values)) return {};
    return fail(ErrorKind::kInvalid, "f16z block holds infinity or NaN");
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

  // Some rows at a time, so that their numbers are made and used in the nearest cache. False for infinity and NaN.
  static bool join(ByteView low, const HighBytes& high, std::size_t channels, std::span<float> values) {
    const std::size_t rows = 1 + 2048 / channels;
    Bytes some_high(rows * channels);
    std::vector<std::uint16_t> numbers(rows * channels);
    bool finite = true;
    for (std::size_t at = 0; at < values.size(); at += rows * channels) {
      const std::size_t n = std::min(rows * channels, values.size() - at);
      for (std::size_t i = 0; i < n; i += channels) high.row((at + i) / channels, some_high.data() + i);
      for (std::size_t i = 0; i < n; ++i) {
        numbers[i] =
            static_cast<std::uint16_t>(static_cast<unsigned>(low[at + i]) | static_cast<unsigned>(some_high[i]) << 8);
      }
      finite = f32_from_f16(std::as_bytes(std::span(numbers)).data(), values.data() + at, n) && finite;
    }
    return finite;
  }
};

}  // namespace

const Codec& f16z_codec() {
  static constexpr LosslessCodec codec;
  return codec;
}

}  // namespace celslm
