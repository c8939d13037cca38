// PackIdentity: id, block numbering, bounds, validation, and the difference between two identities.
#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "kv/pack/pack.h"
#include "kv/pack/pack_layout.h"
#include "kv/pack/places.h"

namespace celslm {
namespace {

Status check_text(const char* field, const std::string& text, std::size_t limit) {
  if (text.size() <= limit) return {};
  return fail(ErrorKind::kInvalid, "{} has {} bytes; at most {} are allowed", field, text.size(), limit);
}

Status check_made_with(const char* field, const Hash256& id, bool required, const PackIdentity& identity) {
  if (required == (id != Hash256{})) return {};
  return fail(ErrorKind::kInvalid, "{} is {}, but provenance is {}", field, required ? "zero" : "set",
              to_string(identity.provenance));
}

Status check_provenance(const PackIdentity& identity) {
  const Provenance last = identity.version == 1 ? Provenance::kFused : Provenance::kStudied;
  if (identity.provenance > last) {
    return fail(ErrorKind::kInvalid, "provenance is {}; version {} has 0 to {}", static_cast<int>(identity.provenance),
                identity.version, static_cast<int>(last));
  }
  const bool mapped = identity.provenance == Provenance::kMapped || identity.provenance == Provenance::kFused;
  if (identity.split < 0 ||
      identity.split > (mapped ? std::min<int>(kMaxPackSplit, static_cast<int>(identity.model.n_layers) - 1) : 0)) {
    return fail(ErrorKind::kInvalid, "split is {}, but provenance is {} and n_layers {}", identity.split,
                to_string(identity.provenance), identity.model.n_layers);
  }
  CELSLM_CHECK_OK(check_made_with("map", identity.map, mapped, identity));
  const int most_rows = identity.studied() ? identity.n_tokens() : 0;
  if (identity.rows < (identity.studied() ? 1 : 0) || identity.rows > most_rows)
    return fail(ErrorKind::kInvalid, "n_rows is {}, but n_tokens is {} and provenance {}", identity.rows,
                identity.n_tokens(), to_string(identity.provenance));
  CELSLM_CHECK_OK(check_made_with("tuning", identity.tuning, identity.provenance == Provenance::kTuned, identity));
  return check_made_with("study", identity.study, identity.provenance == Provenance::kStudied, identity);
}

// A state has no layers that could differ, and nothing is made of it.
Status check_opaque(const PackIdentity& identity) {
  const ModelFingerprint& model = identity.model;
  if (identity.opaque() != (model.arithmetic == Arithmetic::kLibllama))
    return fail(ErrorKind::kInvalid, "codec is {}, but KV of arithmetic class {} {} a state of libllama",
                static_cast<int>(identity.codec), static_cast<int>(model.arithmetic), identity.opaque() ? "is not" : "is");
  if (!identity.opaque()) return {};
  if (identity.version == 1 || identity.provenance != Provenance::kProxy)
    return fail(ErrorKind::kInvalid, "a state of libllama has version 2 or later and provenance proxy, not {} and {}",
                identity.version, to_string(identity.provenance));
  if (model.n_layers != 1)
    return fail(ErrorKind::kInvalid, "a state of libllama counts as one layer, not {}", model.n_layers);
  CELSLM_CHECK_OK(check_number("bytes of a token", model.head_dim, kMaxStateTokenBytes));
  return check_number("KiB of a sequence", model.n_kv_heads, kMaxStateKib);
}

// States of recurrent layers go with the model's own KV only.
Status check_layer_states(const PackIdentity& identity) {
  const std::vector<std::uint32_t>& states = identity.model.states;
  if (states.empty()) return {};
  if (states.size() != identity.model.n_layers)
    return fail(ErrorKind::kInvalid, "states has {} entries, but n_layers is {}", states.size(), identity.model.n_layers);
  if (std::ranges::count(states, 0U) == std::ssize(states))
    return fail(ErrorKind::kInvalid, "states is given, but every layer has rows");
  for (const std::uint32_t bytes : states) {
    if (bytes > kMaxStateBytes || bytes % sizeof(float) != 0)
      return fail(ErrorKind::kInvalid, "state_bytes is {}; expected multiples of {} up to {}", bytes, sizeof(float),
                  kMaxStateBytes);
  }
  const bool native = identity.provenance == Provenance::kProxy || identity.provenance == Provenance::kNative;
  if (identity.version != 1 && native && !identity.opaque()) return {};
  return fail(ErrorKind::kInvalid,
              "recurrent layers are in packs of version 2 or later with the model's own KV, not in {} of {}",
              to_string(identity.provenance), identity.version);
}

// A state's first part has room for what does not grow with its tokens; the others are of a length that the tokens give.
ByteBounds state_part_bytes(const PackIdentity& identity, int index) {
  constexpr std::uint64_t kSlack = 64U << 10;
  const std::uint64_t of_tokens = std::uint64_t{kStateBlockTokens} * identity.model.head_dim;
  return {1, index > 0 ? of_tokens : of_tokens + (std::uint64_t{identity.model.n_kv_heads} << 10) + kSlack};
}

// Of part n's beginning.
ByteBounds state_offset(const PackIdentity& identity, int n) {
  if (n == 0) return {};
  const auto more = static_cast<std::uint64_t>(n - 1);
  return {more + 1, state_part_bytes(identity, 0).most + more * state_part_bytes(identity, 1).most};
}

std::string differing(const char* field, std::string_view here, std::string_view there) {
  return fmt::format("{} ({} here, {} there)", field, here, there);
}

std::string codec_name(CodecId id) {
  const auto codec = find_codec(id);
  return codec ? std::string((*codec)->name()) : fmt::format("number {}", static_cast<int>(id));
}

std::string token_difference(const std::vector<Token>& here, const std::vector<Token>& there) {
  if (here.size() != there.size()) return fmt::format("n_tokens ({} here, {} there)", here.size(), there.size());
  const auto [a, b] = std::ranges::mismatch(here, there);
  if (a == here.end()) return {};
  return fmt::format("tokens[{}] ({} here, {} there)", a - here.begin(), *a, *b);
}

}  // namespace

const char* to_string(Provenance provenance) {
  switch (provenance) {
    case Provenance::kNative: return "native";
    case Provenance::kProxy: return "proxy";
    case Provenance::kMapped: return "mapped";
    case Provenance::kFused: return "fused";
    case Provenance::kTuned: return "tuned";
    case Provenance::kStudied: return "studied";
  }
  return "unknown";
}

Hash256 context_id(const Hash256& tokenizer, std::span<const Token> tokens, std::string_view tenant) {
  const Hash256 plain = Hasher().update(std::as_bytes(std::span(tokenizer.bytes))).update(std::as_bytes(tokens)).finish();
  if (tenant.empty()) return plain;
  return Hasher()
      .update_field("celslm.tenant.context")
      .update_field(tenant)
      .update(std::as_bytes(std::span(plain.bytes)))
      .finish();
}

int PackIdentity::block_tokens() const {
  const auto known = find_codec(codec);
  return known ? (*known)->block_tokens() : kBlockTokens;
}

BlockShape PackIdentity::shape(BlockKind kind, int chunk) const {
  return {.kind = kind,
          .n_tokens = std::min(block_tokens(), n_rows() - chunk * block_tokens()),
          .n_kv_heads = static_cast<int>(model.n_kv_heads),
          .head_dim = static_cast<int>(model.head_dim)};
}

Hash256 PackIdentity::id() const {
  ByteWriter out;
  write_identity(*this, out);
  return pack_id_of(out.data(), version);
}

// The model comes first: nodes with different models differ in everything else too, and the model is what a user can change.
std::string PackIdentity::difference(const PackIdentity& other) const {
  if (model != other.model) return "model." + model.difference(other.model);
  if (std::string tokens_differ = token_difference(tokens, other.tokens); !tokens_differ.empty()) return tokens_differ;
  if (context != other.context) return differing("context", context.hex(), other.context.hex());
  if (of_tenant != other.of_tenant)
    return differing("of_tenant", std::to_string(of_tenant), std::to_string(other.of_tenant));
  if (provenance != other.provenance) return differing("provenance", to_string(provenance), to_string(other.provenance));
  if (map != other.map) return differing("map", map.hex(), other.map.hex());
  if (tuning != other.tuning) return differing("tuning", tuning.hex(), other.tuning.hex());
  if (study != other.study) return differing("study", study.hex(), other.study.hex());
  if (rows != other.rows) return differing("n_rows", std::to_string(rows), std::to_string(other.rows));
  if (split != other.split) return differing("split", std::to_string(split), std::to_string(other.split));
  if (codec != other.codec) return differing("codec", codec_name(codec), codec_name(other.codec));
  if (version != other.version) return differing("version", std::to_string(version), std::to_string(other.version));
  return {};
}

void set_study(PackIdentity& identity, const ContextStudy& study) {
  identity.provenance = Provenance::kStudied;
  identity.study = study.id;
  identity.rows = study.n_rows;
}

PackIdentity version_1(PackIdentity identity) {
  identity.version = 1;
  return identity;
}

bool is_as_version_1(const PackIdentity& identity, bool key_bias) {
  return !key_bias && identity.model.arithmetic == Arithmetic::kCpu;
}

Status check_offer(const PackIdentity& wanted, const PackIdentity& offered, bool key_bias) {
  const bool old = offered.version == 1;
  const std::string difference = wanted.difference(offered);
  if (difference.empty() || (old && is_as_version_1(wanted, key_bias) && version_1(wanted) == offered)) return {};
  if (old && version_1(wanted) == offered)
    return fail(ErrorKind::kMismatch, "a version 1 pack, in which K contains this model's bias, cannot be used any more");
  return fail(ErrorKind::kMismatch, "another pack than the one asked for: {}", difference);
}

Status check_number(const char* field, std::uint64_t value, std::uint64_t limit) {
  if (value >= 1 && value <= limit) return {};
  return fail(ErrorKind::kInvalid, "{} is {}; expected 1 to {}", field, value, limit);
}

Status check_identity(const PackIdentity& identity) {
  const ModelFingerprint& model = identity.model;
  CELSLM_CHECK_OK(check_number("version", identity.version, kPackVersion));
  CELSLM_CHECK_OK(check_number("n_tokens", identity.tokens.size(), kMaxPackTokens));
  CELSLM_CHECK_OK(check_number("n_layers", model.n_layers, kMaxPackLayers));
  if (!identity.opaque()) {
    CELSLM_CHECK_OK(check_number("n_kv_heads", model.n_kv_heads, kMaxPackKvWidth));
    CELSLM_CHECK_OK(check_number("head_dim", model.head_dim, kMaxPackKvWidth));
    CELSLM_CHECK_OK(
        check_number("n_kv_heads * head_dim", std::uint64_t{model.n_kv_heads} * model.head_dim, kMaxPackKvWidth));
  }
  if (identity.version == 1 && model.arithmetic != Arithmetic::kCpu)
    return fail(ErrorKind::kInvalid, "version 1 has KV of arithmetic class 1 only, not {}",
                static_cast<int>(model.arithmetic));
  CELSLM_CHECK_OK(check_text("architecture", model.architecture, kMaxArchitectureBytes));
  CELSLM_CHECK_OK(check_text("rope", model.rope, kMaxRopeBytes));
  if (const auto codec = find_codec(identity.codec); !codec) return wrap(codec.error(), "codec");
  CELSLM_CHECK_OK(check_layer_states(identity));
  CELSLM_CHECK_OK(check_opaque(identity));
  CELSLM_CHECK_OK(check_provenance(identity));
  if (std::ranges::any_of(identity.tokens, [](Token token) { return token < 0; })) {
    return fail(ErrorKind::kInvalid, "tokens contains a negative id");
  }
  if (identity.of_tenant && identity.version == 1) return fail(ErrorKind::kInvalid, "version 1 has no contexts of tenants");
  if (!identity.of_tenant && identity.context != context_id(model.tokenizer, identity.tokens)) {
    return fail(ErrorKind::kInvalid, "context is {}, but the tokens and tokenizer have another id", identity.context.hex());
  }
  return check_number("header_bytes", header_bytes(identity), kMaxHeaderBytes);
}

int PackIdentity::first_block(int layer) const {
  if (model.states.empty()) return layer * blocks_per_layer();
  const auto before = std::span(model.states).first(static_cast<std::size_t>(layer));
  const auto with_rows = static_cast<int>(std::ranges::count(before, 0U));
  return with_rows * blocks_per_layer() + (layer - with_rows);
}

// Planes of a layer are in the order places (of studied packs), K, V.
int block_index(const PackIdentity& identity, const BlockRef& ref) {
  if (identity.opaque()) return ref.chunk;
  if (ref.kind == BlockKind::kLayerState) return identity.first_block(ref.layer);
  const int first_key = identity.n_planes() - 2;
  const int plane = ref.kind == BlockKind::kPlaces ? 0 : first_key + static_cast<int>(ref.kind);
  return identity.first_block(ref.layer) + plane * identity.n_chunks() + ref.chunk;
}

std::string describe(const BlockRef& ref) {
  if (ref.kind == BlockKind::kState) return fmt::format("part {} of the state", ref.chunk);
  if (ref.kind == BlockKind::kLayerState) return fmt::format("layer {} state", ref.layer);
  const char* const kind = ref.kind == BlockKind::kKey ? "K" : ref.kind == BlockKind::kValue ? "V" : "places";
  return fmt::format("layer {} {} chunk {}", ref.layer, kind, ref.chunk);
}

namespace {

int layer_of(const PackIdentity& identity, int index) {
  if (identity.model.states.empty()) return index / identity.blocks_per_layer();
  int layer = 0;
  for (int end = identity.blocks_of(0); end <= index; end += identity.blocks_of(layer)) ++layer;
  return layer;
}

}  // namespace

BlockRef block_ref(const PackIdentity& identity, int index) {
  if (identity.opaque()) return {.kind = BlockKind::kState, .chunk = index};
  const int layer = layer_of(identity, index);
  if (identity.model.state_bytes(layer) > 0) return {.layer = layer, .kind = BlockKind::kLayerState};
  const int within = index - identity.first_block(layer);
  const int chunks = identity.n_chunks();
  const int plane = within / chunks - (identity.n_planes() - 2);
  return {.layer = layer, .kind = plane < 0 ? BlockKind::kPlaces : static_cast<BlockKind>(plane), .chunk = within % chunks};
}

namespace {

ByteBounds row_block_bytes(const PackIdentity& identity, const BlockShape& shape) {
  if (shape.kind == BlockKind::kPlaces) return {shape.rows() * kPlaceBytes, shape.rows() * kPlaceBytes};
  const auto codec = find_codec(identity.codec);
  return codec ? (*codec)->encoded_bytes(shape) : ByteBounds{};
}

}  // namespace

ByteBounds block_bytes(const PackIdentity& identity, int index) {
  if (identity.opaque()) return state_part_bytes(identity, index);
  const BlockRef ref = block_ref(identity, index);
  if (ref.kind == BlockKind::kLayerState) {
    const std::uint64_t bytes = identity.model.state_bytes(ref.layer);
    return {bytes, bytes};
  }
  return row_block_bytes(identity, identity.shape(ref.kind, ref.chunk));
}

namespace {

ByteBounds operator+(const ByteBounds& a, const ByteBounds& b) {
  return {a.least + b.least, a.most + b.most};
}

ByteBounds operator*(int n, const ByteBounds& b) {
  return {static_cast<std::uint64_t>(n) * b.least, static_cast<std::uint64_t>(n) * b.most};
}

// Of a layer with rows.
ByteBounds chunk_bytes(const PackIdentity& identity, int plane, int chunk) {
  const int kind = plane - (identity.n_planes() - 2);
  const BlockShape shape = identity.shape(kind < 0 ? BlockKind::kPlaces : static_cast<BlockKind>(kind), chunk);
  return row_block_bytes(identity, shape);
}

ByteBounds plane_bytes(const PackIdentity& identity, int plane) {
  const int chunks = identity.n_chunks();
  return (chunks - 1) * chunk_bytes(identity, plane, 0) + chunk_bytes(identity, plane, chunks - 1);
}

ByteBounds layer_bytes(const PackIdentity& identity) {
  ByteBounds out;
  for (int plane = 0; plane < identity.n_planes(); ++plane) out = out + plane_bytes(identity, plane);
  return out;
}

}  // namespace

// All chunks but the last of a plane are full, and all layers with rows alike.
ByteBounds block_offset(const PackIdentity& identity, int index) {
  if (identity.opaque()) return state_offset(identity, index);
  const int chunks = identity.n_chunks();
  const auto n_layers = static_cast<int>(identity.model.n_layers);
  const int before = index == identity.n_blocks() ? n_layers : layer_of(identity, index);  // layers
  ByteBounds states;
  int with_rows = before;
  for (int layer = 0; layer < before; ++layer) {
    const std::uint64_t bytes = identity.model.state_bytes(layer);
    if (bytes == 0) continue;
    states = states + ByteBounds{bytes, bytes};
    --with_rows;
  }
  if (before < n_layers && identity.model.state_bytes(before) > 0) return with_rows * layer_bytes(identity) + states;
  const int within = before == n_layers ? 0 : index - identity.first_block(before);
  ByteBounds planes;  // of the same layer before this one's plane
  for (int plane = 0; plane < within / chunks; ++plane) planes = planes + plane_bytes(identity, plane);
  const ByteBounds full = chunk_bytes(identity, within / chunks, 0);
  return with_rows * layer_bytes(identity) + states + planes + within % chunks * full;
}

ByteBounds block_region_bytes(const PackIdentity& identity) {
  return block_offset(identity, identity.n_blocks());
}

Status check_bounds(const PackIdentity& identity, int index, const BlockEntry& entry) {
  const auto check = [index](std::string_view what, std::uint64_t value, const ByteBounds& allowed) -> Status {
    if (allowed.contain(value)) return {};
    if (allowed.least == allowed.most)
      return fail(ErrorKind::kInvalid, "block {}: {} is {}; expected {}", index, what, value, allowed.most);
    return fail(ErrorKind::kInvalid, "block {}: {} is {}; expected {} to {}", index, what, value, allowed.least,
                allowed.most);
  };
  CELSLM_CHECK_OK(check("bytes", entry.bytes, block_bytes(identity, index)));
  return check("offset", entry.offset, block_offset(identity, index));
}

BlockEntry make_entry(std::uint64_t offset, ByteView bytes) {
  return {.offset = offset, .bytes = static_cast<std::uint32_t>(bytes.size()), .hash = hash_of(bytes)};
}

}  // namespace celslm
