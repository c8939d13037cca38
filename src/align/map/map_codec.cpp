// Reads and writes the format of docs/map-format.md.
#include "align/map/map_codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/file.h"
#include "kv/codec/codec.h"

namespace celslm {
namespace {

constexpr std::string_view kMagic = "CELSLMAP";
constexpr std::string_view kNetworksMagic = "CELSLNET";
constexpr std::uint16_t kNetworksVersion = 1;
constexpr std::uint32_t kSameHead = 1;
constexpr std::uint32_t kHasNet = 2;

void write_f64(double value, ByteWriter& out) {
  out.u64(std::bit_cast<std::uint64_t>(value));
}
double read_f64(ByteReader& in) {
  return std::bit_cast<double>(in.u64());
}

void write_floats(std::span<const float> values, ByteWriter& out) {
  out.bytes(std::as_bytes(values));
}

Result<std::vector<float>> read_floats(ByteReader& in, std::uint64_t n) {
  if (n > in.remaining() / sizeof(float)) return fail(ErrorKind::kInvalid, "truncated inside an array of {} floats", n);
  const ByteView raw = in.bytes(n * sizeof(float));
  std::vector<float> out(n);
  if (n > 0) std::memcpy(out.data(), raw.data(), raw.size());
  if (!std::ranges::all_of(out, [](float v) { return std::isfinite(v); })) {
    return fail(ErrorKind::kInvalid, "contains NaN or infinity");
  }
  return out;
}

BlockShape matrix_shape(int rows, int columns) {
  return {.n_tokens = rows, .n_kv_heads = 1, .head_dim = columns};
}

Status write_matrix(std::span<const float> values, int rows, int columns, MapPrecision precision, ByteWriter& out) {
  if (precision == MapPrecision::kF32) {
    write_floats(values, out);
    return {};
  }
  CELSLM_TRY(const Codec* codec, find_codec(static_cast<CodecId>(precision)));
  CELSLM_TRY(const Bytes bytes, codec->encode(matrix_shape(rows, columns), values));
  out.bytes(bytes);
  return {};
}

Result<std::vector<float>> read_matrix(ByteReader& in, int rows, int columns, MapPrecision precision) {
  const std::uint64_t n = static_cast<std::uint64_t>(rows) * static_cast<std::uint64_t>(columns);
  if (precision == MapPrecision::kF32) return read_floats(in, n);
  CELSLM_TRY(const Codec* codec, find_codec(static_cast<CodecId>(precision)));
  const std::uint64_t size = codec->encoded_bytes(matrix_shape(rows, columns)).most;
  if (size > in.remaining()) return fail(ErrorKind::kInvalid, "truncated inside a matrix of {} x {}", rows, columns);
  std::vector<float> out(n);
  CELSLM_CHECK_OK(codec->decode(matrix_shape(rows, columns), in.bytes(size), out));
  return out;
}

void write_layers(const std::vector<int>& layers, ByteWriter& out) {
  out.u32(static_cast<std::uint32_t>(layers.size()));
  for (const int layer : layers) out.u32(static_cast<std::uint32_t>(layer));
}

Result<std::vector<int>> read_layers(ByteReader& in, std::uint32_t most, const MapModel& model) {
  const std::uint32_t n = in.u32();
  if (!in.ok() || n < 1 || n > most) return fail(ErrorKind::kInvalid, "{} source layers; expected 1 to {}", n, most);
  std::vector<int> out;
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::uint32_t layer = in.u32();
    if (layer >= static_cast<std::uint32_t>(model.n_layers)) {
      return fail(ErrorKind::kInvalid, "source layer {} of a model that has {} layers", layer, model.n_layers);
    }
    out.push_back(static_cast<int>(layer));
  }
  return out;
}

void write_hash(const Hash256& hash, ByteWriter& out) {
  out.bytes(std::as_bytes(std::span(hash.bytes)));
}
Hash256 read_hash(ByteReader& in) {
  Hash256 out;
  if (const ByteView raw = in.bytes(out.bytes.size()); !raw.empty()) std::memcpy(out.bytes.data(), raw.data(), raw.size());
  return out;
}

void write_model(const MapModel& model, ByteWriter& out) {
  write_hash(model.id, out);
  write_hash(model.tokenizer, out);
  for (const int value : {model.n_layers, model.n_kv_heads, model.head_dim}) out.u32(static_cast<std::uint32_t>(value));
}

Result<MapModel> read_model(ByteReader& in, const char* side) {
  MapModel out{.id = read_hash(in), .tokenizer = read_hash(in)};
  const std::uint64_t layers = in.u32();
  const std::uint64_t heads = in.u32();
  const std::uint64_t head_dim = in.u32();
  if (!in.ok() || layers < 1 || layers > kMaxMapLayers || heads * head_dim < 1 || heads * head_dim > kMaxMapWidth) {
    return fail(ErrorKind::kInvalid, "{}: {} layers of {} heads of {} values; at most {} layers and {} values are accepted",
                side, layers, heads, head_dim, kMaxMapLayers, kMaxMapWidth);
  }
  out.n_layers = static_cast<int>(layers);
  out.n_kv_heads = static_cast<int>(heads);
  out.head_dim = static_cast<int>(head_dim);
  return out;
}

void write_gate(const Gate& gate, ByteWriter& out) {
  out.u32(static_cast<std::uint32_t>(gate.state));
  out.u32(static_cast<std::uint32_t>(gate.split));
  write_f64(gate.limits.min_retained, out);
  write_f64(gate.limits.max_kl, out);
  out.u32(static_cast<std::uint32_t>(gate.splits.size()));
  for (const SplitMetrics& s : gate.splits) {
    for (const std::uint32_t value : {static_cast<std::uint32_t>(s.split), s.questions, s.right, s.native_right})
      out.u32(value);
    write_f64(s.kl, out);
  }
}

Result<Gate> read_gate(ByteReader& in, const MapModel& target) {
  const auto n_layers = static_cast<std::uint32_t>(target.n_layers);
  const std::uint32_t state = in.u32();
  const std::uint32_t split = in.u32();
  Gate out{.limits = {.min_retained = read_f64(in), .max_kl = read_f64(in)}};
  const std::uint32_t n = in.u32();
  if (!in.ok() || state > static_cast<std::uint32_t>(GateState::kRefused) || split >= n_layers || n > n_layers) {
    return fail(ErrorKind::kInvalid, "gate: state {}, split {} and {} judged splits are not valid for {} layers", state,
                split, n, n_layers);
  }
  out.state = static_cast<GateState>(state);
  out.split = static_cast<int>(split);
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::uint32_t judged = in.u32();
    if (judged > n_layers) return fail(ErrorKind::kInvalid, "gate: split {} of {} layers", judged, n_layers);
    SplitMetrics s{.split = static_cast<int>(judged), .questions = in.u32(), .right = in.u32(), .native_right = in.u32()};
    s.kl = read_f64(in);
    out.splits.push_back(s);
  }
  return out;
}

Status write_plane(const PlaneMap& plane, MapPrecision precision, ByteWriter& out) {
  write_layers(plane.sources, out);
  out.u32((plane.same_head ? kSameHead : 0) | (plane.net ? kHasNet : 0));
  write_f64(plane.held_out_r2, out);
  write_floats(plane.bias, out);
  for (const MapMatrix& m : plane.blocks) {
    out.u32(static_cast<std::uint32_t>(m.rank));
    CELSLM_CHECK_OK(write_matrix(m.left, m.n_in, m.rank == 0 ? m.n_out : m.rank, precision, out));
    if (m.rank > 0) CELSLM_CHECK_OK(write_matrix(m.right, m.rank, m.n_out, precision, out));
  }
  return plane.net ? write_net(*plane.net, precision, out) : Status();
}

Result<MapMatrix> read_block(ByteReader& in, MapPrecision precision, int n_in, int n_out) {
  MapMatrix out{.n_in = n_in, .n_out = n_out};
  const std::uint32_t rank = in.u32();
  if (rank > static_cast<std::uint32_t>(std::min(n_in, n_out))) {
    return fail(ErrorKind::kInvalid, "rank {} is too large for a matrix of {} x {}", rank, n_in, n_out);
  }
  out.rank = static_cast<int>(rank);
  CELSLM_TRY(out.left, read_matrix(in, n_in, out.rank == 0 ? n_out : out.rank, precision));
  if (out.rank > 0) {
    CELSLM_TRY(out.right, read_matrix(in, out.rank, n_out, precision));
  }
  return out;
}

Result<PlaneMap> read_plane(ByteReader& in, const KvMap& map) {
  PlaneMap out;
  CELSLM_TRY(out.sources, read_layers(in, kMaxMapSources, map.source));
  const std::uint32_t flags = in.u32();
  out.held_out_r2 = read_f64(in);
  const int heads = source_heads(map.source, map.target);
  if ((flags & ~(kSameHead | kHasNet)) != 0) return fail(ErrorKind::kInvalid, "unknown flags {:#x}", flags);
  out.same_head = (flags & kSameHead) != 0;
  if (out.same_head && heads == 0)
    return fail(ErrorKind::kInvalid, "the same-head flag is set, but neither head count divides the other");
  CELSLM_TRY(out.bias, read_floats(in, static_cast<std::uint64_t>(map.target.kv_width())));
  const int per_layer = out.same_head ? heads * map.source.head_dim : map.source.kv_width();
  for (int i = 0; i < (out.same_head ? map.target.n_kv_heads : 1); ++i) {
    CELSLM_TRY(auto block, read_block(in, map.precision, static_cast<int>(out.sources.size()) * per_layer,
                                      out.same_head ? map.target.head_dim : map.target.kv_width()));
    out.blocks.push_back(std::move(block));
  }
  if ((flags & kHasNet) != 0) {
    CELSLM_TRY(out.net, read_net(in, map.precision, map.source, map.target));
  }
  return out;
}

Status read_prefix(ByteReader& in, KvMap& map) {
  if (as_text(in.bytes(kMagic.size())) != kMagic)
    return fail(ErrorKind::kInvalid, "is not a layer map: it must begin with {}", kMagic);
  map.version = in.u16();
  if (map.version < 1 || map.version > kMapVersion)
    return fail(ErrorKind::kInvalid, "map version {} is not supported; this program reads versions 1 to {}", map.version,
                kMapVersion);
  const std::uint8_t precision = in.u8();
  if (in.u8() != 0) return fail(ErrorKind::kInvalid, "the reserved byte is not 0");
  map.precision = static_cast<MapPrecision>(precision);
  if (map.precision != MapPrecision::kF32 && map.precision != MapPrecision::kF16 && map.precision != MapPrecision::kQ8) {
    return fail(ErrorKind::kInvalid, "unknown precision {}; expected 0 (f32), 1 (f16) or 3 (q8)", precision);
  }
  map.lambda = read_f64(in);
  return {};
}

Result<std::vector<Hash256>> read_calibration(ByteReader& in) {
  const std::uint32_t n = in.u32();
  if (n > kMaxMapDocuments || n > in.remaining() / sizeof(Hash256)) {
    return fail(ErrorKind::kInvalid, "{} calibration documents are more than the rest of the file can hold, or more than {}",
                n, kMaxMapDocuments);
  }
  std::vector<Hash256> out;
  out.reserve(n);
  for (std::uint32_t i = 0; i < n; ++i) out.push_back(read_hash(in));
  if (std::ranges::adjacent_find(out, std::greater_equal()) != out.end()) {
    return fail(ErrorKind::kInvalid, "the hashes of the calibration documents are not in ascending order");
  }
  return out;
}

Status read_contents(ByteReader& in, KvMap& map) {
  CELSLM_CHECK_OK(read_prefix(in, map));
  CELSLM_TRY(map.source, read_model(in, "source"));
  CELSLM_TRY(map.target, read_model(in, "target"));
  CELSLM_TRY(map.calibration, read_calibration(in));
  CELSLM_TRY(map.gate, read_gate(in, map.target));
  for (int i = 0; i < map.target.n_layers; ++i) {
    auto k = read_plane(in, map);
    if (!k) return wrap(std::move(k).error(), fmt::format("layer {}, K", i));
    auto v = read_plane(in, map);
    if (!v) return wrap(std::move(v).error(), fmt::format("layer {}, V", i));
    map.layers.push_back({.k = *std::move(k), .v = *std::move(v)});
  }
  if (!in.ok()) return fail(ErrorKind::kInvalid, "truncated");
  if (in.remaining() != 0) return fail(ErrorKind::kInvalid, "has {} bytes after its end", in.remaining());
  return {};
}

}  // namespace

Hash256 map_hash(ByteView contents) {
  return Hasher().update_field("celslm.map.id.").update(contents).finish();
}

Status write_net(const ResidualNet& net, MapPrecision precision, ByteWriter& out) {
  write_layers(net.inputs, out);
  out.u32(static_cast<std::uint32_t>(net.n_hidden));
  const auto n_in = static_cast<int>(net.hidden.size()) / net.n_hidden;
  CELSLM_CHECK_OK(write_matrix(net.hidden, n_in, net.n_hidden, precision, out));
  write_floats(net.hidden_bias, out);
  CELSLM_CHECK_OK(write_matrix(net.out, net.n_hidden, static_cast<int>(net.out_bias.size()), precision, out));
  write_floats(net.out_bias, out);
  write_floats(net.gate, out);
  return {};
}

Result<ResidualNet> read_net(ByteReader& in, MapPrecision precision, const MapModel& source, const MapModel& target) {
  ResidualNet out;
  CELSLM_TRY(out.inputs, read_layers(in, kMaxMapLayers, source));
  const std::uint32_t n_hidden = in.u32();
  if (n_hidden < 1 || n_hidden > kMaxNetHidden) {
    return fail(ErrorKind::kInvalid, "a network has {} hidden values; expected 1 to {}", n_hidden, kMaxNetHidden);
  }
  out.n_hidden = static_cast<int>(n_hidden);
  const int n_in = static_cast<int>(out.inputs.size()) * 2 * source.kv_width();
  CELSLM_TRY(out.hidden, read_matrix(in, n_in, out.n_hidden, precision));
  CELSLM_TRY(out.hidden_bias, read_floats(in, n_hidden));
  CELSLM_TRY(out.out, read_matrix(in, out.n_hidden, target.kv_width(), precision));
  CELSLM_TRY(out.out_bias, read_floats(in, static_cast<std::uint64_t>(target.kv_width())));
  CELSLM_TRY(out.gate, read_floats(in, static_cast<std::uint64_t>(target.n_kv_heads)));
  return out;
}

Result<Bytes> encode_map(const KvMap& map) {
  ByteWriter out;
  out.bytes(as_bytes(kMagic));
  out.u16(map.version);
  out.u8(static_cast<std::uint8_t>(map.precision));
  out.u8(0);
  write_f64(map.lambda, out);
  write_model(map.source, out);
  write_model(map.target, out);
  out.u32(static_cast<std::uint32_t>(map.calibration.size()));
  for (const Hash256& hash : map.calibration) write_hash(hash, out);
  write_gate(map.gate, out);
  for (const LayerMap& layer : map.layers) {
    CELSLM_CHECK_OK(write_plane(layer.k, map.precision, out));
    CELSLM_CHECK_OK(write_plane(layer.v, map.precision, out));
  }
  write_hash(map_hash(out.data()), out);
  return out.take();
}

Result<KvMap> parse_map(ByteView bytes) {
  if (bytes.size() < kMapHashBytes) return fail(ErrorKind::kInvalid, "has {} bytes; a layer map is larger", bytes.size());
  const ByteView contents = bytes.first(bytes.size() - kMapHashBytes);
  ByteReader end(bytes.last(kMapHashBytes));
  KvMap out;
  out.id = read_hash(end);
  ByteReader in(contents);
  CELSLM_CHECK_OK(read_contents(in, out));
  if (map_hash(contents) != out.id)
    return fail(ErrorKind::kMismatch, "its contents do not match the hash at its end: the file is damaged");
  CELSLM_CHECK_OK(check_map(out));
  return out;
}

Status fuse(ByteView networks, KvMap& map) {
  ByteReader in(networks);
  if (as_text(in.bytes(kNetworksMagic.size())) != kNetworksMagic)
    return fail(ErrorKind::kInvalid, "is not a network file: it must begin with {}", kNetworksMagic);
  const std::uint16_t version = in.u16();
  if (version != kNetworksVersion) {
    return fail(ErrorKind::kInvalid, "network file version {} is not supported; this program reads version {}", version,
                kNetworksVersion);
  }
  if (in.u16() != 0) return fail(ErrorKind::kInvalid, "the reserved bytes are not 0");
  for (LayerMap& layer : map.layers) {
    for (PlaneMap* plane : {&layer.k, &layer.v}) {
      const std::uint32_t present = in.u32();
      if (!in.ok() || present > 1)
        return fail(ErrorKind::kInvalid, "expected 0 or 1 (whether a network follows), got {}", present);
      plane->net.reset();
      if (present == 0) continue;
      CELSLM_TRY(plane->net, read_net(in, MapPrecision::kF32, map.source, map.target));
    }
  }
  if (in.remaining() != 0) return fail(ErrorKind::kInvalid, "has {} bytes after its end", in.remaining());
  map.gate = {};
  return check_map(map);
}

Result<KvMap> read_map(const std::filesystem::path& path) {
  CELSLM_TRY(const auto file, MappedFile::open(path));
  if (file->bytes().size() > kMaxMapBytes)
    return fail(ErrorKind::kInvalid, "{}: has {} bytes; a map has at most {}", path.string(), file->bytes().size(),
                kMaxMapBytes);
  auto map = parse_map(file->bytes());
  return map ? std::move(map) : wrap(std::move(map).error(), path.string());
}

Result<KvMap> write_map(const std::filesystem::path& path, const KvMap& map) {
  CELSLM_TRY(const Bytes bytes, encode_map(map));
  CELSLM_CHECK_OK(write_file_atomically(path, bytes));
  return parse_map(bytes);
}

}  // namespace celslm
