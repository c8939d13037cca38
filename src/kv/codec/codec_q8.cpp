#include <cmath>
#include <limits>

#include "kv/codec/codecs.h"
#include "model/numeric/convert.h"

namespace celslm {
namespace {

// Groups of 32 along head_dim, int8 codes and an f16 scale each; all scales first, then all codes.
class Q8Codec final : public Codec {
 public:
  CodecId id() const override { return CodecId::kQ8; }
  std::string_view name() const override { return "q8"; }
  std::optional<KvType> exact_for() const override { return std::nullopt; }
  ByteBounds encoded_bytes(const BlockShape& shape) const override { return {size(shape), size(shape)}; }

  Result<Bytes> encode(const BlockShape& shape, std::span<const float> values, ChannelWeights weights) const override {
    CELSLM_CHECK_OK(check_encode(shape, values, weights));
    Bytes out(size(shape));
    const auto width = static_cast<std::size_t>(shape.head_dim);
    if (!q8_from_f32(values.data(), out.data(), out.data() + scale_bytes(shape), shape.rows(), width)) {
      // The largest that fits is itself allowed, so the limit is the next number.
      return unfit_value(name(), shape, values, std::nextafter(kQ8Largest, std::numeric_limits<float>::infinity()));
    }
    return out;
  }

  Status decode(const BlockShape& shape, ByteView bytes, std::span<float> values) const override {
    CELSLM_CHECK_OK(check_decode(*this, shape, bytes, values));
    const auto width = static_cast<std::size_t>(shape.head_dim);
    if (!f32_from_q8(bytes.data(), bytes.data() + scale_bytes(shape), values.data(), shape.rows(), width)) {
      return fail(
          ErrorKind::kInvalid,
          "q8 block holds what no encoder writes: a scale beyond 0 to {}, the code -128, or a group whose largest code "
          "is not 127",
          kQ8LargestScale);
    }
    return {};
  }

 private:
  static std::size_t size(const BlockShape& shape) { return scale_bytes(shape) + shape.values(); }
  static std::size_t scale_bytes(const BlockShape& shape) {
    return shape.rows() * q8_groups(static_cast<std::size_t>(shape.head_dim)) * 2;
  }
};

}  // namespace

const Codec& q8_codec() {
  static constexpr Q8Codec codec;
  return codec;
}

}  // namespace celslm
