#include "kv/codec/codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "kv/codec/codecs.h"
#include "model/numeric/convert.h"

namespace celslm {
namespace {

// More than any block that a header may announce (block_tokens() * kMaxPackKvWidth); keeps every product of sizes small.
constexpr std::size_t kMaxBlockValues = 1U << 27;
constexpr int kMaxExtent = 1 << 20;

Status check_shape(const BlockShape& shape, std::size_t values) {
  const auto fits = [](int extent) { return extent > 0 && extent <= kMaxExtent; };
  if (!fits(shape.n_tokens) || !fits(shape.n_kv_heads) || !fits(shape.head_dim) || shape.rows() > kMaxBlockValues ||
      shape.values() > kMaxBlockValues) {
    return fail(ErrorKind::kInvalid, "no block has the shape [{}][{}][{}]", shape.n_tokens, shape.n_kv_heads,
                shape.head_dim);
  }
  if (values != shape.values()) {
    return fail(ErrorKind::kInvalid, "a block of [{}][{}][{}] has {} values, not {}", shape.n_tokens, shape.n_kv_heads,
                shape.head_dim, shape.values(), values);
  }
  return {};
}

// Two bytes a value: f16 and bf16.
class HalfCodec final : public Codec {
 public:
  using Encode = bool (*)(const float*, std::byte*, std::size_t);
  using Decode = bool (*)(const std::byte*, float*, std::size_t);

  constexpr HalfCodec(CodecId id, std::string_view name, KvType type, float limit, Encode to_half, Decode from_half)
      : id_(id), name_(name), type_(type), limit_(limit), to_half_(to_half), from_half_(from_half) {}

  CodecId id() const override { return id_; }
  std::string_view name() const override { return name_; }
  std::optional<KvType> exact_for() const override { return type_; }
  ByteBounds encoded_bytes(const BlockShape& shape) const override { return {shape.values() * 2, shape.values() * 2}; }

  Result<Bytes> encode(const BlockShape& shape, std::span<const float> values, ChannelWeights weights) const override {
    CELSLM_CHECK_OK(check_encode(shape, values, weights));
    Bytes out(shape.values() * 2);
    if (!to_half_(values.data(), out.data(), values.size())) return unfit_value(name_, shape, values, limit_);
    return out;
  }

  Status decode(const BlockShape& shape, ByteView bytes, std::span<float> values) const override {
    CELSLM_CHECK_OK(check_decode(*this, shape, bytes, values));
    if (!from_half_(bytes.data(), values.data(), values.size())) {
      return fail(ErrorKind::kInvalid, "{} block holds infinity or NaN", name_);
    }
    return {};
  }

 private:
  const CodecId id_;
  const std::string_view name_;
  const KvType type_;
  const float limit_;
  const Encode to_half_;
  const Decode from_half_;
};

}  // namespace

Status check_encode(const BlockShape& shape, std::span<const float> values, ChannelWeights weights) {
  CELSLM_CHECK_OK(check_shape(shape, values.size()));
  if (weights.empty()) return {};
  const std::size_t channels = shape.values() / static_cast<std::size_t>(shape.n_tokens);
  if (weights.size() != channels)
    return fail(ErrorKind::kInvalid, "{} channel weights for {} channels", weights.size(), channels);
  const auto unfit = std::ranges::find_if(weights, [](float w) { return !(w >= 0.0F && std::isfinite(w)); });
  if (unfit == weights.end()) return {};
  return fail(ErrorKind::kInvalid, "the weight of channel {} is {}", unfit - weights.begin(), *unfit);
}

Status check_decode(const Codec& codec, const BlockShape& shape, ByteView bytes, std::span<float> values) {
  CELSLM_CHECK_OK(check_shape(shape, values.size()));
  const ByteBounds bounds = codec.encoded_bytes(shape);
  if (bounds.contain(bytes.size())) return {};
  return fail(ErrorKind::kInvalid, "a {} block of [{}][{}][{}] has {} to {} bytes, not {}", codec.name(), shape.n_tokens,
              shape.n_kv_heads, shape.head_dim, bounds.least, bounds.most, bytes.size());
}

std::unexpected<Error> unfit_value(std::string_view codec, const BlockShape& shape, std::span<const float> values,
                                   float limit) {
  const auto unfit = std::ranges::find_if(values, [limit](float v) { return !(std::abs(v) < limit); });
  const auto index = static_cast<std::size_t>(unfit - values.begin());
  const auto row = index / static_cast<std::size_t>(shape.head_dim);
  const auto heads = static_cast<std::size_t>(shape.n_kv_heads);
  return fail(ErrorKind::kInvalid, "{} cannot hold {} (token {}, head {}, dimension {} of the block)", codec,
              unfit == values.end() ? 0.0F : *unfit, row / heads, row % heads,
              index % static_cast<std::size_t>(shape.head_dim));
}

const Codec& f16_codec() {
  static constexpr HalfCodec codec(CodecId::kF16, "f16", KvType::kF16, kF16Limit, f16_from_f32, f32_from_f16);
  return codec;
}

const Codec& bf16_codec() {
  static constexpr HalfCodec codec(CodecId::kBf16, "bf16", KvType::kBf16, kBf16Limit, bf16_from_f32, f32_from_bf16);
  return codec;
}

namespace {

class OpaqueCodec final : public Codec {
 public:
  CodecId id() const override { return CodecId::kOpaque; }
  std::string_view name() const override { return "opaque"; }
  std::optional<KvType> exact_for() const override { return std::nullopt; }
  int block_tokens() const override { return kStateBlockTokens; }
  ByteBounds encoded_bytes(const BlockShape& /*shape*/) const override { return {}; }  // see block_bytes()
  Result<Bytes> encode(const BlockShape& /*shape*/, std::span<const float> /*values*/,
                       ChannelWeights /*weights*/) const override {
    return std::unexpected(no_values());
  }
  Status decode(const BlockShape& /*shape*/, ByteView /*bytes*/, std::span<float> /*values*/) const override {
    return std::unexpected(no_values());
  }

 private:
  static Error no_values() { return {ErrorKind::kInvalid, "the codec opaque is for states that libllama wrote"}; }
};

}  // namespace

const Codec& opaque_codec() {
  static constexpr OpaqueCodec codec;
  return codec;
}

std::span<const Codec* const> all_codecs() {
  static const std::array<const Codec*, 7> codecs = {&f16_codec(), &f16z_codec(), &bf16_codec(), &q8_codec(),
                                                     &t4_codec(),  &t3_codec(),   &t2_codec()};
  return codecs;
}

Result<const Codec*> find_codec(CodecId id) {
  for (const Codec* codec : all_codecs()) {
    if (codec->id() == id) return codec;
  }
  if (id == CodecId::kOpaque) return &opaque_codec();
  return fail(ErrorKind::kInvalid, "no codec has the number {}; this version knows 1 to {}", static_cast<int>(id),
              all_codecs().size() + 1);
}

Result<const Codec*> find_codec(std::string_view name) {
  std::string names;
  for (const Codec* codec : all_codecs()) {
    if (codec->name() == name) return codec;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", codec->name());
  }
  if (name == opaque_codec().name()) return &opaque_codec();
  return fail(ErrorKind::kInvalid, "no codec '{}'; there are {}", name, names);
}

}  // namespace celslm
