// The bytes of an identity, in versions 1 and 2 of the format.
#include <fmt/format.h>

#include <algorithm>

#include "kv/pack/pack_layout.h"

namespace celslm {
namespace {

// Of different versions in different domains, so that no bytes are two packs of one id.
constexpr std::string_view kPackIdDomain = "celslm.pack.id.";
constexpr std::string_view kPackIdDomain2 = "celslm.pack.id.2";

constexpr std::size_t kRunBytes = 16;
constexpr std::uint8_t kOfTenantBit = 0x80;  // of the byte with the provenance

// Consecutive layers of one shape.
struct LayerRun {
  std::uint16_t count = 0;
  LayerKind kind = LayerKind::kAttention;
  std::uint8_t reserved = 0;
  std::array<std::uint32_t, 3> sizes{};  // attention: n_kv_heads, head_dim of K, of V; state: its bytes, 0, 0

  bool same_shape(const LayerRun& other) const { return kind == other.kind && sizes == other.sizes; }
};

// What the bytes state beside the fields of PackIdentity.
struct Stated {
  std::uint16_t n_runs = 0;
  std::uint32_t block_tokens = 0;
  std::uint32_t n_rows = 0;
  std::uint32_t n_tokens = 0;
  std::vector<LayerRun> runs;  // empty in version 1
};

std::vector<LayerRun> runs_of(const ModelFingerprint& model) {
  std::vector<LayerRun> out;
  for (std::uint32_t layer = 0; layer < model.n_layers; ++layer) {
    const std::uint32_t state = model.state_bytes(static_cast<int>(layer));
    const LayerRun run = state > 0 ? LayerRun{.kind = LayerKind::kState, .sizes = {state, 0, 0}}
                                   : LayerRun{.sizes = {model.n_kv_heads, model.head_dim, model.head_dim}};
    if (out.empty() || !out.back().same_shape(run)) out.push_back(run);
    ++out.back().count;
  }
  return out;
}

void write_hash(const Hash256& hash, ByteWriter& out) {
  out.bytes(view(hash.bytes));
}

void write_fixed_1(const PackIdentity& identity, ByteWriter& out) {
  out.u16(static_cast<std::uint16_t>(identity.codec));
  out.u8(static_cast<std::uint8_t>(identity.provenance));
  out.u8(static_cast<std::uint8_t>(identity.split));
  out.u32(identity.model.n_layers);
  out.u32(identity.model.n_kv_heads);
  out.u32(identity.model.head_dim);
  out.u32(static_cast<std::uint32_t>(identity.block_tokens()));
  out.u32(static_cast<std::uint32_t>(identity.tokens.size()));
}

void write_fixed_2(const PackIdentity& identity, ByteWriter& out) {
  write_hash(identity.tuning, out);
  write_hash(identity.study, out);
  out.u16(static_cast<std::uint16_t>(identity.codec));
  out.u16(static_cast<std::uint16_t>(identity.model.arithmetic));
  out.u8(static_cast<std::uint8_t>(static_cast<unsigned>(identity.provenance) | (identity.of_tenant ? kOfTenantBit : 0U)));
  out.u8(static_cast<std::uint8_t>(identity.split));
  out.u16(static_cast<std::uint16_t>(runs_of(identity.model).size()));
  out.u32(static_cast<std::uint32_t>(identity.block_tokens()));
  out.u32(static_cast<std::uint32_t>(identity.n_rows()));
  out.u32(static_cast<std::uint32_t>(identity.tokens.size()));
  for (const LayerRun& run : runs_of(identity.model)) {
    out.u16(run.count);
    out.u8(static_cast<std::uint8_t>(run.kind));
    out.u8(run.reserved);
    for (const std::uint32_t size : run.sizes) out.u32(size);
  }
}

Stated read_fixed_1(ByteReader& in, PackIdentity& out) {
  Stated stated;
  out.codec = static_cast<CodecId>(in.u16());
  out.provenance = static_cast<Provenance>(in.u8());
  out.split = in.u8();
  out.model.n_layers = in.u32();
  out.model.n_kv_heads = in.u32();
  out.model.head_dim = in.u32();
  stated.block_tokens = in.u32();
  stated.n_tokens = in.u32();
  stated.n_rows = stated.n_tokens;
  return stated;
}

Stated read_fixed_2(ByteReader& in, PackIdentity& out) {
  Stated stated;
  out.tuning = read_hash(in);
  out.study = read_hash(in);
  out.codec = static_cast<CodecId>(in.u16());
  out.model.arithmetic = static_cast<Arithmetic>(in.u16());
  const std::uint8_t provenance = in.u8();
  out.of_tenant = (provenance & kOfTenantBit) != 0;
  out.provenance = static_cast<Provenance>(provenance & ~unsigned{kOfTenantBit});
  out.split = in.u8();
  stated.n_runs = in.u16();
  stated.block_tokens = in.u32();
  stated.n_rows = in.u32();
  stated.n_tokens = in.u32();
  return stated;
}

LayerRun read_run(ByteReader& in) {
  LayerRun run;
  run.count = in.u16();
  run.kind = static_cast<LayerKind>(in.u8());
  run.reserved = in.u8();
  for (std::uint32_t& size : run.sizes) size = in.u32();
  return run;
}

Status check_attention(const LayerRun& run) {
  const auto [n_kv_heads, k_dim, v_dim] = run.sizes;
  CELSLM_CHECK_OK(check_number("n_kv_heads", n_kv_heads, kMaxPackKvWidth));
  for (const std::uint32_t head_dim : {k_dim, v_dim}) {
    CELSLM_CHECK_OK(check_number("head_dim", head_dim, kMaxPackKvWidth));
    CELSLM_CHECK_OK(check_number("n_kv_heads * head_dim", std::uint64_t{n_kv_heads} * head_dim, kMaxPackKvWidth));
  }
  return {};
}

Status check_run(const LayerRun& run) {
  CELSLM_CHECK_OK(check_number("n_layers of a run", run.count, kMaxPackLayers));
  if (run.reserved != 0) return fail(ErrorKind::kInvalid, "the reserved byte of a run is {}; expected 0", run.reserved);
  if (run.kind == LayerKind::kAttention) return check_attention(run);
  if (run.kind != LayerKind::kState)
    return fail(ErrorKind::kInvalid, "the layers' kind is {}; expected 0 (attention) or 1 (recurrent state)",
                static_cast<int>(run.kind));
  CELSLM_CHECK_OK(check_number("state_bytes", run.sizes[0], kMaxStateBytes));
  if (run.sizes[1] == 0 && run.sizes[2] == 0) return {};
  return fail(ErrorKind::kInvalid, "a state has one size; {} and {} follow it", run.sizes[1], run.sizes[2]);
}

// One shape has one encoding: neighbouring runs differ.
Status read_runs(ByteReader& in, Stated& stated) {
  CELSLM_CHECK_OK(check_number("n_runs", stated.n_runs, kMaxPackLayers));
  std::uint64_t layers = 0;
  for (int i = 0; i < stated.n_runs; ++i) {
    const LayerRun run = read_run(in);
    if (!in.ok()) return fail(ErrorKind::kInvalid, "the runs of layers are truncated: n_runs is {}", stated.n_runs);
    CELSLM_CHECK_OK(check_run(run));
    if (i > 0 && stated.runs.back().same_shape(run))
      return fail(ErrorKind::kInvalid, "runs {} and {} of layers have the same shape: they must be one", i - 1, i);
    stated.runs.push_back(run);
    layers += run.count;
  }
  return check_number("n_layers", layers, kMaxPackLayers);
}

Status read_texts(ByteReader& in, ModelFingerprint& out) {
  out.architecture = in.text(kMaxArchitectureBytes);
  if (!in.ok()) return fail(ErrorKind::kInvalid, "architecture is truncated or longer than {} bytes", kMaxArchitectureBytes);
  out.rope = in.text(kMaxRopeBytes);
  if (!in.ok()) return fail(ErrorKind::kInvalid, "rope is truncated or longer than {} bytes", kMaxRopeBytes);
  return {};
}

Result<std::vector<Token>> read_tokens(ByteReader& in, std::uint32_t n_tokens) {
  if (in.remaining() != n_tokens * sizeof(Token))
    return fail(ErrorKind::kInvalid, "tokens has {} bytes, but n_tokens is {}", in.remaining(), n_tokens);
  std::vector<Token> out(n_tokens);
  const ByteView raw = in.bytes(in.remaining());
  std::memcpy(out.data(), raw.data(), raw.size());
  return out;
}

// Fewer rows than tokens are what a study makes, and nothing else.
Status check_rows(const Stated& stated, Provenance provenance) {
  CELSLM_CHECK_OK(check_number("n_rows", stated.n_rows, kMaxPackTokens));
  if (stated.n_rows == stated.n_tokens) return {};
  if (stated.n_rows < stated.n_tokens && provenance == Provenance::kStudied) return {};
  return fail(ErrorKind::kInvalid, "n_rows is {}, but n_tokens is {} and provenance {}", stated.n_rows, stated.n_tokens,
              to_string(provenance));
}

// What the format has room for and this program cannot use.
Status refuse_unsupported(const Stated& stated, Arithmetic arithmetic) {
  const auto refuse = [](const std::string& feature) {
    return fail(ErrorKind::kInvalid, "the pack has {}, which this program does not support", feature);
  };
  if (arithmetic < Arithmetic::kCpu || arithmetic > Arithmetic::kLibllama)
    return refuse(fmt::format("KV of arithmetic class {}", static_cast<int>(arithmetic)));
  const LayerRun* attention = nullptr;
  for (const LayerRun& run : stated.runs) {
    if (run.kind == LayerKind::kState) continue;
    if (run.sizes[1] != run.sizes[2])
      return refuse(fmt::format("heads of {} values of K and {} of V", run.sizes[1], run.sizes[2]));
    if (attention != nullptr && !attention->same_shape(run)) return refuse("layers of attention of different shapes");
    attention = &run;
  }
  if (!stated.runs.empty() && attention == nullptr) return refuse("recurrent layers only");
  return {};
}

// The model's shape: refuse_unsupported() has seen that one describes all layers with attention.
void take_shape(const Stated& stated, ModelFingerprint& model) {
  const bool has_states = std::ranges::contains(stated.runs, LayerKind::kState, &LayerRun::kind);
  for (const LayerRun& run : stated.runs) {
    const bool is_state = run.kind == LayerKind::kState;
    if (!is_state) {
      model.n_kv_heads = run.sizes[0];
      model.head_dim = run.sizes[1];
    }
    model.n_layers += run.count;
    if (has_states) model.states.insert(model.states.end(), run.count, is_state ? run.sizes[0] : 0);
  }
}

}  // namespace

void write_identity(const PackIdentity& identity, ByteWriter& out) {
  write_hash(identity.context, out);
  write_hash(identity.model.tokenizer, out);
  write_hash(identity.model.weights, out);
  write_hash(identity.map, out);
  if (identity.version == 1) {
    write_fixed_1(identity, out);
  } else {
    write_fixed_2(identity, out);
  }
  out.text(identity.model.architecture);
  out.text(identity.model.rope);
  out.bytes(std::as_bytes(std::span(identity.tokens)));
}

std::size_t identity_bytes(const PackIdentity& identity) {
  const std::size_t runs = identity.version == 1 ? 0 : kRunBytes * runs_of(identity.model).size();
  return fixed_identity_bytes(identity.version) + runs + 4 + identity.model.architecture.size() + 4 +
         identity.model.rope.size() + identity.tokens.size() * sizeof(Token);
}

Hash256 pack_id_of(ByteView identity, std::uint16_t version) {
  return Hasher().update_field(version == 1 ? kPackIdDomain : kPackIdDomain2).update(identity).finish();
}

Result<PackIdentity> read_identity(ByteView bytes, std::uint16_t version) {
  ByteReader in(bytes);
  PackIdentity out{.version = version};
  out.context = read_hash(in);
  out.model.tokenizer = read_hash(in);
  out.model.weights = read_hash(in);
  out.map = read_hash(in);
  Stated stated = version == 1 ? read_fixed_1(in, out) : read_fixed_2(in, out);
  if (!in.ok()) return fail(ErrorKind::kInvalid, "identity_bytes is {}: too few", bytes.size());
  CELSLM_CHECK_OK(check_number("n_tokens", stated.n_tokens, kMaxPackTokens));
  if (version != 1) CELSLM_CHECK_OK(read_runs(in, stated));
  CELSLM_CHECK_OK(read_texts(in, out.model));
  CELSLM_TRY(out.tokens, read_tokens(in, stated.n_tokens));
  CELSLM_CHECK_OK(check_rows(stated, out.provenance));
  CELSLM_CHECK_OK(refuse_unsupported(stated, out.model.arithmetic));
  if (out.studied()) out.rows = static_cast<int>(stated.n_rows);
  if (version != 1) take_shape(stated, out.model);
  CELSLM_CHECK_OK(check_identity(out));
  if (stated.block_tokens != static_cast<std::uint32_t>(out.block_tokens())) {
    return fail(ErrorKind::kInvalid, "block_tokens is {}; the codec requires {}", stated.block_tokens, out.block_tokens());
  }
  return out;
}

}  // namespace celslm
