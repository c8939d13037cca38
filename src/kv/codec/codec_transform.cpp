#include <algorithm>
#include <cmath>

#include "kv/codec/codecs.h"
#include "kv/codec/symbols.h"
#include "kv/codec/transform.h"
#include "model/numeric/convert.h"

namespace celslm {
namespace {

constexpr int kLeadTokens = 4;               // attention sinks, unlike all others: kept at 8 bits, out of the statistics
constexpr std::size_t kRowsWorthABasis = 2;  // times head_dim
constexpr double kSmallestUnit = 1e-30;      // blocks of still smaller values become zeros
constexpr float kLargestUnit = 0x1p60F;      // times any sum of 32 bits it stays finite

// The part of a block behind its lead tokens, and what describes it.
struct Body {
  std::size_t n = 0;      // tokens
  std::size_t heads = 0;  // KV heads
  std::size_t width = 0;  // head_dim
  bool fitted = false;    // directions were fitted; else they are the axes
  float unit = 0.0F;
  std::vector<std::int32_t> offset;     // [heads][width]
  std::vector<std::size_t> rank;        // [heads]
  std::vector<std::int8_t> directions;  // all heads', [rank][width] each
  std::vector<RowClass> classes;        // all heads', [rank] each
  std::vector<std::int16_t> rows;       // all heads', [rank][n] each: when encoding
  PackedRows packed;                    // the same: when decoding

  std::size_t channels() const { return heads * width; }
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

// Of the values from their channels' means: the root of the mean square, and the largest.
struct Deviation {
  double typical = 0.0;
  double largest = 0.0;
};

Deviation deviation_of(std::span<const float> values, std::span<const double> means) {
  Deviation out;
  for (std::size_t i = 0; i < values.size(); i += means.size()) {
    for (std::size_t c = 0; c < means.size(); ++c) {
      const double difference = values[i + c] - means[c];
      out.typical += difference * difference;
      out.largest = std::max(out.largest, std::abs(difference));
    }
  }
  out.typical = std::sqrt(out.typical / static_cast<double>(values.size()));
  return out;
}

// The step in values, unless coefficients or offsets would then not fit their fields: both floors are far below any step
// that KV asks for. The factor leaves room for a rounded basis being a little shorter than 1.
double step_of(double wanted, const Deviation& deviation, std::span<const double> means, std::size_t width, float scale) {
  constexpr double kRoom = 1.25;
  double largest_mean = 0.0;
  for (const double mean : means) largest_mean = std::max(largest_mean, std::abs(mean));
  const double coefficients = kRoom * deviation.largest * std::sqrt(static_cast<double>(width)) / kMaxCoefficient;
  const double offsets = largest_mean * scale / kMaxOffset;
  return std::max({wanted, coefficients, offsets});
}

// [n][width]: one head, less the offsets as the decoder will add them.
std::vector<float> head_rows(const Body& body, std::span<const float> values, std::size_t head) {
  std::vector<float> out(body.n * body.width);
  for (std::size_t t = 0; t < body.n; ++t) {
    for (std::size_t k = 0; k < body.width; ++k) {
      const std::size_t channel = head * body.width + k;
      out[t * body.width + k] = values[t * body.channels() + channel] - static_cast<float>(body.offset[channel]) * body.unit;
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
Body analyse_body(Body body, std::span<const float> values, double relative_step) {
  const std::vector<double> means = means_of(values, body.channels());
  const Deviation deviation = deviation_of(values, means);
  body.fitted = body.n >= kRowsWorthABasis * body.width;
  const float scale = body.fitted ? basis_scale(body.width) : 1.0F;
  const double unit = step_of(relative_step * deviation.typical, deviation, means, body.width, scale) / scale;
  body.offset.resize(body.channels());
  body.rank.reserve(body.heads);
  if (unit < kSmallestUnit) {
    body.rank.resize(body.heads);
    return body;
  }
  body.unit = static_cast<float>(unit);
  for (std::size_t c = 0; c < means.size(); ++c) {
    const double offset = std::nearbyint(means[c] / body.unit);
    body.offset[c] = static_cast<std::int32_t>(std::clamp(offset, -double{kMaxOffset}, double{kMaxOffset}));
  }
  for (std::size_t head = 0; head < body.heads; ++head) add_head(body, values, head, body.unit * scale);
  return body;
}

Status write_body(const Body& body, ByteWriter& out) {
  out.u8(body.fitted ? 1 : 0);
  out.f32(body.unit);
  for (const std::int32_t offset : body.offset) out.integer(offset);
  for (const std::size_t rank : body.rank) out.u16(static_cast<std::uint16_t>(rank));
  out.bytes(std::as_bytes(std::span(body.classes)));
  StreamWriter streams(out);
  if (body.fitted) CELSLM_CHECK_OK(streams.write(std::as_bytes(std::span(body.directions))));
  return write_rows(body.classes, body.rows, body.n, streams);
}

Status read_offsets(Body& body, ByteReader& in) {
  body.unit = in.f32();
  if (!(body.unit >= 0.0F && body.unit <= kLargestUnit)) {
    return fail(ErrorKind::kInvalid, "the unit is {}, not between 0 and {}", body.unit, kLargestUnit);
  }
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
  const std::uint8_t fitted = in.u8();
  if (fitted > 1) return fail(ErrorKind::kInvalid, "the kind of basis is {}, not 0 or 1", fitted);
  body.fitted = fitted == 1;
  CELSLM_CHECK_OK(read_offsets(body, in));
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
  for (std::size_t head = 0; head < body.heads; ++head) {
    const std::size_t rank = body.rank[head];
    const Synthesizer synthesizer(std::span(body.directions).subspan(before * body.width, rank * body.width),
                                  std::span(body.offset).subspan(head * body.width, body.width), body.unit);
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
  // step: between neighbouring coefficients, in typical deviations of a block's values. K takes half of it, V twice.
  constexpr TransformCodec(CodecId id, std::string_view name, double step) : id_(id), name_(name), step_(step) {}

  CodecId id() const override { return id_; }
  std::string_view name() const override { return name_; }
  std::optional<KvType> exact_for() const override { return std::nullopt; }
  int block_tokens() const override { return 2048; }

  ByteBounds encoded_bytes(const BlockShape& shape) const override {
    const std::uint64_t lead = q8_codec().encoded_bytes(lead_of(shape)).most;
    const Body body = body_of(shape);
    if (body.n == 0) return {lead, lead};
    const std::uint64_t fixed = lead + 1 + 4 + 4 * body.channels() + 2 * body.heads;
    const std::uint64_t raw = body.channels() * (body.width + 2 * body.n);
    return {fixed, fixed + body.channels() + max_streams_bytes(raw)};
  }

  Result<Bytes> encode(const BlockShape& shape, std::span<const float> values) const override {
    CELSLM_CHECK_OK(check_encode(shape, values));
    CELSLM_CHECK_OK(check_width(shape));
    if (!std::ranges::all_of(values, [](float v) { return std::abs(v) < kF16Limit; })) {
      return unfit_value(name_, shape, values, kF16Limit);
    }
    const BlockShape lead = lead_of(shape);
    CELSLM_TRY(const Bytes lead_bytes, q8_codec().encode(lead, values.first(lead.values())));
    ByteWriter out;
    out.bytes(lead_bytes);
    if (lead.n_tokens < shape.n_tokens) {
      const double step = shape.kind == BlockKind::kKey ? step_ / 2.0 : step_ * 2.0;
      CELSLM_CHECK_OK(write_body(analyse_body(body_of(shape), values.subspan(lead.values()), step), out));
    }
    return out.take();
  }

  Status decode(const BlockShape& shape, ByteView bytes, std::span<float> values) const override {
    CELSLM_CHECK_OK(check_decode(*this, shape, bytes, values));
    CELSLM_CHECK_OK(check_width(shape));
    const BlockShape lead = lead_of(shape);
    const std::size_t lead_bytes = q8_codec().encoded_bytes(lead).most;
    CELSLM_CHECK_OK(q8_codec().decode(lead, bytes.first(lead_bytes), values.first(lead.values())));
    if (lead.n_tokens == shape.n_tokens) return {};
    ByteReader in(bytes.subspan(lead_bytes));
    Body body = body_of(shape);
    if (auto status = read_body(body, in); !status) return wrap(std::move(status).error(), std::string(name_) + " block");
    const float largest = synthesize_body(body, values.subspan(lead.values()));
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
  double step_;
};

}  // namespace

const Codec& t4_codec() {
  static constexpr TransformCodec codec(CodecId::kT4, "t4", 0.125);
  return codec;
}

const Codec& t3_codec() {
  static constexpr TransformCodec codec(CodecId::kT3, "t3", 0.25);
  return codec;
}

const Codec& t2_codec() {
  static constexpr TransformCodec codec(CodecId::kT2, "t2", 0.5);
  return codec;
}

}  // namespace celslm
