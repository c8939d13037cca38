#include <algorithm>
#include <cmath>

#include "kv/codec/codecs.h"
#include "kv/codec/symbols.h"
#include "kv/codec/transform.h"
#include "model/numeric/convert.h"

namespace celslm {
namespace {

constexpr int kLeadTokens = 4;  // attention sinks, unlike all others: kept at 8 bits, out of the statistics
// Directions are sent once a block and spare bits in each row: from so many rows on, times head_dim, they pay. K gains more.
constexpr std::size_t kRowsWorthABasisOfK = 6;
constexpr std::size_t kRowsWorthABasisOfV = 12;
constexpr float kFinestGain =
    4.0F;  // of the channel that matters most: gains are integers, and this rounds them well enough
constexpr float kLargestGain = 255.0F;
constexpr double kSmallestUnit = 1e-30;  // blocks of still smaller values become zeros
constexpr float kLargestUnit = 0x1p60F;  // times any sum of 32 bits it stays finite

// The part of a block behind its lead tokens, and what describes it.
struct Body {
  std::size_t n = 0;      // tokens
  std::size_t heads = 0;  // KV heads
  std::size_t width = 0;  // head_dim
  bool fitted = false;    // directions were fitted; else they are the axes
  float unit = 0.0F;
  std::vector<std::uint8_t> gain;       // [heads][width] or empty: the unit of a channel is `unit` times this
  std::vector<std::int32_t> offset;     // [heads][width]
  std::vector<std::size_t> rank;        // [heads]
  std::vector<std::int8_t> directions;  // all heads', [rank][width] each
  std::vector<RowClass> classes;        // all heads', [rank] each
  std::vector<std::int16_t> rows;       // all heads', [rank][n] each: when encoding
  PackedRows packed;                    // the same: when decoding

  std::size_t channels() const { return heads * width; }
  float gain_of(std::size_t channel) const { return gain.empty() ? 1.0F : static_cast<float>(gain[channel]); }
  float unit_of(std::size_t channel) const { return unit * gain_of(channel); }
};

Body body_of(const BlockShape& shape) {
  return {.n = static_cast<std::size_t>(std::max(0, shape.n_tokens - kLeadTokens)),
          .heads = static_cast<std::size_t>(shape.n_kv_heads),
          .width = static_cast<std::size_t>(shape.head_dim)};
}

BlockShape lead_of(BlockShape shape) {
  shape.n_tokens = std::min(shape.n_tokens, kLeadTokens);
  return shape;
}

// values: [n][channels] here and below.
std::vector<double> means_of(std::span<const float> values, std::size_t channels) {
  std::vector<double> out(channels);
  for (std::size_t i = 0; i < values.size(); i += channels) {
    for (std::size_t c = 0; c < channels; ++c) out[c] += values[i + c];
  }
  const std::size_t n = values.size() / channels;
  for (double& mean : out) mean /= static_cast<double>(n);
  return out;
}

// The less a channel matters, the larger its gain, and so its steps; without weights there are none.
std::vector<std::uint8_t> gains_of(ChannelWeights weights) {
  const float most = weights.empty() ? 0.0F : std::ranges::max(weights);
  if (!(most > 0.0F)) return {};
  const float least = most / (kLargestGain / kFinestGain);
  std::vector<std::uint8_t> out;
  for (const float weight : weights) {
    out.push_back(static_cast<std::uint8_t>(std::nearbyint(kFinestGain * (most / std::max(weight, least)))));
  }
  return out;
}

// Of the values from their channels' means: the root of the mean square, and the largest. All in the channels' gains.
struct Deviation {
  double typical = 0.0;
  double largest = 0.0;
};

Deviation deviation_of(const Body& body, std::span<const float> values, std::span<const double> means) {
  Deviation out;
  for (std::size_t i = 0; i < values.size(); i += means.size()) {
    for (std::size_t c = 0; c < means.size(); ++c) {
      const double difference = (values[i + c] - means[c]) / body.gain_of(c);
      out.typical += difference * difference;
      out.largest = std::max(out.largest, std::abs(difference));
    }
  }
  out.typical = std::sqrt(out.typical / static_cast<double>(values.size()));
  return out;
}

// The step, unless coefficients or offsets would then not fit their fields: both floors are far below any step
// that KV asks for. The factor leaves room for a rounded basis being a little shorter than 1.
double step_of(double wanted, const Deviation& deviation, std::span<const double> means, const Body& body, float scale) {
  constexpr double kRoom = 1.25;
  double largest_mean = 0.0;
  for (std::size_t c = 0; c < means.size(); ++c) largest_mean = std::max(largest_mean, std::abs(means[c]) / body.gain_of(c));
  const double coefficients = kRoom * deviation.largest * std::sqrt(static_cast<double>(body.width)) / kMaxCoefficient;
  const double offsets = largest_mean * scale / kMaxOffset;
  return std::max({wanted, coefficients, offsets});
}

// [n][width]: one head, less the offsets as the decoder will add them, in the channels' gains.
std::vector<float> head_rows(const Body& body, std::span<const float> values, std::size_t head) {
  std::vector<float> out(body.n * body.width);
  for (std::size_t t = 0; t < body.n; ++t) {
    for (std::size_t k = 0; k < body.width; ++k) {
      const std::size_t channel = head * body.width + k;
      const float offset = static_cast<float>(body.offset[channel]) * body.unit_of(channel);
      out[t * body.width + k] = (values[t * body.channels() + channel] - offset) / body.gain_of(channel);
    }
  }
  return out;
}

void add_head(Body& body, std::span<const float> values, std::size_t head, float step) {
  const std::vector<float> rows = head_rows(body, values, head);
  const Basis basis = body.fitted ? fit_basis(rows, body.width, step) : axes(body.width);
  const std::size_t begin = body.rows.size();
  body.rows.resize(begin + basis.rank * body.n);
  const auto coefficients = std::span(body.rows).subspan(begin);
  analyse(basis, rows, body.width, step, coefficients);
  for (std::size_t i = 0; i < basis.rank; ++i) {
    body.classes.push_back(classify(std::span<const std::int16_t>(coefficients).subspan(i * body.n, body.n)));
  }
  body.rank.push_back(basis.rank);
  body.directions.insert(body.directions.end(), basis.directions.begin(), basis.directions.end());
}

// relative_step: in typical deviations.
Body analyse_body(Body body, std::span<const float> values, double relative_step, std::size_t rows_worth_a_basis) {
  const std::vector<double> means = means_of(values, body.channels());
  const Deviation deviation = deviation_of(body, values, means);
  body.fitted = body.n >= rows_worth_a_basis * body.width;
  const float scale = body.fitted ? basis_scale(body.width) : 1.0F;
  const double unit = step_of(relative_step * deviation.typical, deviation, means, body, scale) / scale;
  body.offset.resize(body.channels());
  body.rank.reserve(body.heads);
  if (unit < kSmallestUnit) {
    body.rank.resize(body.heads);
    return body;
  }
  body.unit = static_cast<float>(unit);
  for (std::size_t c = 0; c < means.size(); ++c) {
    const double offset = std::nearbyint(means[c] / body.unit_of(c));
    body.offset[c] = static_cast<std::int32_t>(std::clamp(offset, -double{kMaxOffset}, double{kMaxOffset}));
  }
  for (std::size_t head = 0; head < body.heads; ++head) add_head(body, values, head, body.unit * scale);
  return body;
}

// Bits of a body's first byte.
constexpr std::uint8_t kFitted = 1;
constexpr std::uint8_t kGains = 2;

Status write_body(const Body& body, ByteWriter& out) {
  out.u8(static_cast<std::uint8_t>((body.fitted ? kFitted : 0) | (body.gain.empty() ? 0 : kGains)));
  out.f32(body.unit);
  out.bytes(std::as_bytes(std::span(body.gain)));
  for (const std::int32_t offset : body.offset) out.integer(offset);
  for (const std::size_t rank : body.rank) out.u16(static_cast<std::uint16_t>(rank));
  out.bytes(std::as_bytes(std::span(body.classes)));
  StreamWriter streams(out);
  if (body.fitted) CELSLM_CHECK_OK(streams.write(std::as_bytes(std::span(body.directions))));
  return write_rows(body.classes, body.rows, body.n, streams);
}

Status read_gains(Body& body, ByteReader& in) {
  const ByteView raw = in.bytes(body.channels());
  for (const std::byte byte : raw) body.gain.push_back(static_cast<std::uint8_t>(byte));
  if (!std::ranges::contains(body.gain, 0)) return {};
  return fail(ErrorKind::kInvalid, "a channel's gain is 0");
}

Status read_offsets(Body& body, ByteReader& in, bool gains) {
  body.unit = in.f32();
  if (!(body.unit >= 0.0F && body.unit <= kLargestUnit)) {
    return fail(ErrorKind::kInvalid, "the unit is {}, not between 0 and {}", body.unit, kLargestUnit);
  }
  if (gains) CELSLM_CHECK_OK(read_gains(body, in));
  body.offset.resize(body.channels());
  for (std::int32_t& offset : body.offset) {
    offset = in.integer<std::int32_t>();
    if (offset < -kMaxOffset || offset > kMaxOffset) return fail(ErrorKind::kInvalid, "an offset is {}", offset);
  }
  return {};
}

Status read_directions(Body& body, ByteReader& in, StreamReader& streams) {
  std::size_t total = 0;
  for (std::size_t head = 0; head < body.heads; ++head) {
    const std::size_t rank = in.u16();
    if (rank > body.width) return fail(ErrorKind::kInvalid, "{} directions in {} dimensions", rank, body.width);
    if (!body.fitted && rank != body.width && rank != 0) return fail(ErrorKind::kInvalid, "{} axes of {}", rank, body.width);
    body.rank.push_back(rank);
    total += rank;
  }
  body.classes.resize(total);
  if (const ByteView raw = in.bytes(total); !raw.empty()) std::memcpy(body.classes.data(), raw.data(), total);
  if (!in.ok()) return fail(ErrorKind::kInvalid, "the block ends before its directions");
  for (const RowClass row_class : body.classes) CELSLM_CHECK_OK(check_class(row_class));
  if (body.fitted) {
    body.directions.resize(total * body.width);
    return streams.read(std::as_writable_bytes(std::span(body.directions)));
  }
  const Basis basis = axes(body.width);
  for (const std::size_t rank : body.rank) {
    if (rank > 0) body.directions.insert(body.directions.end(), basis.directions.begin(), basis.directions.end());
  }
  return {};
}

Status read_body(Body& body, ByteReader& in) {
  const std::uint8_t kind = in.u8();
  if (kind > (kFitted | kGains)) return fail(ErrorKind::kInvalid, "the kind of body is {}, not 0 to 3", kind);
  body.fitted = (kind & kFitted) != 0;
  CELSLM_CHECK_OK(read_offsets(body, in, (kind & kGains) != 0));
  StreamReader streams(in);
  CELSLM_CHECK_OK(read_directions(body, in, streams));
  CELSLM_TRY(body.packed, PackedRows::read(body.classes, body.n, streams));
  if (in.remaining() > 0) return fail(ErrorKind::kInvalid, "{} bytes behind the last stream", in.remaining());
  return {};
}

// The largest magnitude of the values.
float synthesize_body(const Body& body, std::span<float> values) {
  float largest = 0.0F;
  std::size_t before = 0;  // directions of the heads before
  std::vector<std::int16_t> piece;
  std::vector<float> units(body.width);
  for (std::size_t head = 0; head < body.heads; ++head) {
    const std::size_t rank = body.rank[head];
    for (std::size_t k = 0; k < body.width; ++k) units[k] = body.unit_of(head * body.width + k);
    const Synthesizer synthesizer(std::span(body.directions).subspan(before * body.width, rank * body.width),
                                  std::span(body.offset).subspan(head * body.width, body.width), units);
    for (std::size_t t = 0; t < body.n; t += PackedRows::kPiece) {
      const std::size_t n = std::min(PackedRows::kPiece, body.n - t);
      piece.resize(rank * n);
      for (std::size_t i = 0; i < rank; ++i) body.packed.unpack(before + i, t, std::span(piece).subspan(i * n, n));
      float* out = values.data() + t * body.channels() + head * body.width;
      largest = std::max(largest, synthesizer.rows(piece, n, out, body.channels()));
    }
    before += rank;
  }
  return largest;
}

class TransformCodec final : public Codec {
 public:
  // Steps between neighbouring coefficients of K and of V, in typical deviations of a block's values.
  constexpr TransformCodec(CodecId id, std::string_view name, double k_step, double v_step)
      : id_(id), name_(name), k_step_(k_step), v_step_(v_step) {}

  CodecId id() const override { return id_; }
  std::string_view name() const override { return name_; }
  std::optional<KvType> exact_for() const override { return std::nullopt; }
  int block_tokens() const override { return 2048; }

  ByteBounds encoded_bytes(const BlockShape& shape) const override {
    const std::uint64_t lead = q8_codec().encoded_bytes(lead_of(shape)).most;
    const Body body = body_of(shape);
    if (body.n == 0) return {lead, lead};
    const std::uint64_t fixed = lead + 1 + 4 + 4 * body.channels() + 2 * body.heads;  // without gains
    const std::uint64_t raw = body.channels() * (body.width + 2 * body.n);
    return {fixed, fixed + 2 * body.channels() + max_streams_bytes(raw)};
  }

  Result<Bytes> encode(const BlockShape& shape, std::span<const float> values, ChannelWeights weights) const override {
    CELSLM_CHECK_OK(check_encode(shape, values, weights));
    CELSLM_CHECK_OK(check_width(shape));
    if (!std::ranges::all_of(values, [](float v) { return std::abs(v) < kF16Limit; })) {
      return unfit_value(name_, shape, values, kF16Limit);
    }
    const BlockShape lead = lead_of(shape);
    CELSLM_TRY(const Bytes lead_bytes, q8_codec().encode(lead, values.first(lead.values())));
    ByteWriter out;
    out.bytes(lead_bytes);
    if (lead.n_tokens < shape.n_tokens) {
      const bool key = shape.kind == BlockKind::kKey;
      Body body = body_of(shape);
      body.gain = gains_of(weights);
      body = analyse_body(std::move(body), values.subspan(lead.values()), key ? k_step_ : v_step_,
                          key ? kRowsWorthABasisOfK : kRowsWorthABasisOfV);
      CELSLM_CHECK_OK(write_body(body, out));
    }
    // A rounded value may pass what f16 holds where the value was close to it.
    std::vector<float> decoded(values.size());
    CELSLM_CHECK_OK(decode(shape, out.data(), decoded));
    return out.take();
  }

  Status decode(const BlockShape& shape, ByteView bytes, std::span<float> values) const override {
    CELSLM_CHECK_OK(check_decode(*this, shape, bytes, values));
    CELSLM_CHECK_OK(check_width(shape));
    const BlockShape lead = lead_of(shape);
    const std::size_t lead_bytes = q8_codec().encoded_bytes(lead).most;
    CELSLM_CHECK_OK(q8_codec().decode(lead, bytes.first(lead_bytes), values.first(lead.values())));
    float largest = 0.0F;  // q8 holds more than f16 does
    for (const float v : values.first(lead.values())) largest = std::max(largest, std::abs(v));
    if (lead.n_tokens < shape.n_tokens) {
      ByteReader in(bytes.subspan(lead_bytes));
      Body body = body_of(shape);
      if (auto status = read_body(body, in); !status) return wrap(std::move(status).error(), std::string(name_) + " block");
      largest = std::max(largest, synthesize_body(body, values.subspan(lead.values())));
    }
    if (largest < kF16Limit) return {};
    return fail(ErrorKind::kInvalid, "{} block holds a value of {}", name_, largest);
  }

 private:
  Status check_width(const BlockShape& shape) const {
    if (shape.head_dim <= kMaxTransformWidth) return {};
    return fail(ErrorKind::kInvalid, "{} takes heads of up to {} values, not {}", name_, kMaxTransformWidth, shape.head_dim);
  }

  CodecId id_;
  std::string_view name_;
  double k_step_;
  double v_step_;
};

}  // namespace

const Codec& t4_codec() {
  static constexpr TransformCodec codec(CodecId::kT4, "t4", 0.1, 0.3);
  return codec;
}

const Codec& t3_codec() {
  static constexpr TransformCodec codec(CodecId::kT3, "t3", 0.2, 0.55);
  return codec;
}

const Codec& t2_codec() {
  static constexpr TransformCodec codec(CodecId::kT2, "t2", 0.4, 1.1);
  return codec;
}

}  // namespace celslm
