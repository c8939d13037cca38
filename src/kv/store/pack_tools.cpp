#include "kv/store/pack_tools.h"

#include <fmt/format.h>

#include <cmath>

#include "kv/pack/layer_state.h"
#include "kv/store/store_folder.h"

namespace celslm {
namespace {

struct PlaneDifference {
  double error = 0.0;    // RMS of the differences, relative to the RMS of the first pack's values
  double largest = 0.0;  // largest absolute difference
};

PlaneDifference compare_planes(std::span<const float> a, std::span<const float> b) {
  double values = 0.0;
  double differences = 0.0;
  PlaneDifference out;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = double{b[i]} - a[i];
    values += double{a[i]} * a[i];
    differences += difference * difference;
    out.largest = std::max(out.largest, std::abs(difference));
  }
  out.error = differences > 0.0 ? std::sqrt(differences / values) : 0.0;
  return out;
}

// The block that follows those that are there.
Status put_next(Bytes bytes, PackWriter& writer, std::vector<BlockEntry>& entries) {
  const std::uint64_t offset = entries.empty() ? 0 : entries.back().offset + entries.back().bytes;
  const auto block = VerifiedBlock::make(static_cast<int>(entries.size()), offset, std::move(bytes));
  entries.push_back(block.entry());
  return writer.put(block);
}

Status put_plane(const PackIdentity& identity, const Codec& codec, BlockKind kind, std::span<const float> values,
                 PackWriter& writer, std::vector<BlockEntry>& entries) {
  for (int chunk = 0; chunk < identity.n_chunks(); ++chunk) {
    const BlockShape shape = identity.shape(kind, chunk);
    CELSLM_TRY(Bytes bytes, codec.encode(shape, values.first(shape.values())));
    values = values.subspan(shape.values());
    CELSLM_CHECK_OK(put_next(std::move(bytes), writer, entries));
  }
  return {};
}

// Chunks have as many rows as the codec wants.
Status copy_places(const StoredPack& from, const PackIdentity& to, int layer, PackWriter& writer,
                   std::vector<BlockEntry>& entries) {
  CELSLM_TRY(const RowPlaces all, read_places(from, layer));
  for (int chunk = 0; chunk < to.n_chunks(); ++chunk) {
    const auto n_rows = static_cast<std::size_t>(to.shape(BlockKind::kPlaces, chunk).n_tokens);
    const std::size_t first = static_cast<std::size_t>(chunk) * static_cast<std::size_t>(to.block_tokens());
    CELSLM_CHECK_OK(put_next(encode_places(all.rows(first, n_rows, to.model.n_kv_heads)), writer, entries));
  }
  return {};
}

Status check_comparable(const PackIdentity& a, const PackIdentity& b) {
  if (a.tokens != b.tokens) return fail(ErrorKind::kMismatch, "the packs have different contexts: {}", a.difference(b));
  if (a.n_rows() == b.n_rows() && a.model.n_layers == b.model.n_layers && a.model.n_kv_heads == b.model.n_kv_heads &&
      a.model.head_dim == b.model.head_dim && a.model.states == b.model.states)
    return {};
  return fail(ErrorKind::kMismatch, "the packs are for models of different shapes: {}", a.difference(b));
}

}  // namespace

Result<std::vector<float>> read_plane(const StoredPack& pack, int layer, BlockKind kind) {
  const PackIdentity& identity = pack.header.identity;
  std::vector<float> out;
  for (int chunk = 0; chunk < identity.n_chunks(); ++chunk) {
    const BlockRef ref{layer, kind, chunk};
    const std::size_t before = out.size();
    out.resize(before + identity.shape(kind, chunk).values());
    CELSLM_TRY(const VerifiedBlock block, pack.block(block_index(identity, ref)));
    CELSLM_CHECK_OK(decode_block(identity, block, std::span(out).subspan(before)));
  }
  return out;
}

Result<std::vector<float>> read_layer_state(const StoredPack& pack, int layer) {
  const PackIdentity& identity = pack.header.identity;
  CELSLM_TRY(const VerifiedBlock block, pack.block(block_index(identity, {layer, BlockKind::kLayerState, 0})));
  return decode_layer_state(identity, block);
}

Result<RowPlaces> read_places(const StoredPack& pack, int layer) {
  const PackIdentity& identity = pack.header.identity;
  RowPlaces out(identity.model.n_kv_heads, static_cast<std::size_t>(identity.n_rows()));
  for (int chunk = 0; chunk < identity.n_chunks(); ++chunk) {
    const BlockRef ref{layer, BlockKind::kPlaces, chunk};
    CELSLM_TRY(const VerifiedBlock block, pack.block(block_index(identity, ref)));
    CELSLM_TRY(const RowPlaces some, decode_places(identity, block));
    out.put(static_cast<std::size_t>(chunk) * static_cast<std::size_t>(identity.block_tokens()), some,
            identity.model.n_kv_heads);
  }
  return out;
}

namespace {

void add_plane(PackDifference& out, int layer, const char* name, std::span<const float> a, std::span<const float> b) {
  const PlaneDifference plane = compare_planes(a, b);
  out.same_values = out.same_values && plane.largest == 0.0;
  out.text += fmt::format("layer {:3} {}  error {:.5f} relative, {:.5f} largest\n", layer, name, plane.error, plane.largest);
}

Result<bool> have_same_places(const StoredPack& a, const StoredPack& b, int layer) {
  if (!a.header.identity.studied() || !b.header.identity.studied())
    return a.header.identity.studied() == b.header.identity.studied();
  CELSLM_TRY(const RowPlaces left, read_places(a, layer));
  CELSLM_TRY(const RowPlaces right, read_places(b, layer));
  return left == right;
}

}  // namespace

Result<std::uint64_t> convert_pack(const StoredPack& from, const Codec& to, const SigningKey& key,
                                   const std::filesystem::path& path) {
  PackIdentity identity = from.header.identity;
  CELSLM_TRY(const Codec* codec, find_codec(identity.codec));
  if (codec->exact_for() != KvType::kF16 || to.exact_for().value_or(KvType::kF16) != KvType::kF16) {
    return fail(ErrorKind::kInvalid,
                "only packs exact for f16 can be converted, and to {} they cannot: what a codec has lost cannot be restored",
                to.name());
  }
  identity.codec = to.id();
  const std::uint64_t reserve = header_bytes(identity) + block_region_bytes(identity).most;
  CELSLM_TRY(auto file, AtomicFile::create(path, reserve));
  const auto writer = make_pack_writer(identity, std::move(file));
  std::vector<BlockEntry> entries;
  for (int layer = 0; layer < static_cast<int>(identity.model.n_layers); ++layer) {
    if (identity.model.state_bytes(layer) > 0) {
      CELSLM_TRY(const std::vector<float> state, read_layer_state(from, layer));
      CELSLM_CHECK_OK(put_next(encode_layer_state(state), *writer, entries));
      continue;
    }
    if (identity.studied()) CELSLM_CHECK_OK(copy_places(from, identity, layer, *writer, entries));
    for (const BlockKind kind : {BlockKind::kKey, BlockKind::kValue}) {
      CELSLM_TRY(const std::vector<float> values, read_plane(from, layer, kind));
      CELSLM_CHECK_OK(put_plane(identity, to, kind, values, *writer, entries));
    }
  }
  CELSLM_CHECK_OK(writer->commit(encode_header(identity, entries, key)));
  return header_bytes(identity) + entries.back().offset + entries.back().bytes;
}

Result<PackDifference> compare_packs(const StoredPack& a, const StoredPack& b) {
  CELSLM_CHECK_OK(check_comparable(a.header.identity, b.header.identity));
  PackDifference out{.same_values = true};
  const std::string difference = a.header.identity.difference(b.header.identity);
  if (!difference.empty()) out.text += difference + "\n";
  for (int layer = 0; layer < static_cast<int>(a.header.identity.model.n_layers); ++layer) {
    if (a.header.identity.model.state_bytes(layer) > 0) {
      CELSLM_TRY(const std::vector<float> left, read_layer_state(a, layer));
      CELSLM_TRY(const std::vector<float> right, read_layer_state(b, layer));
      add_plane(out, layer, "state", left, right);
      continue;
    }
    CELSLM_TRY(const bool same_places, have_same_places(a, b, layer));
    out.same_values = out.same_values && same_places;
    if (!same_places) out.text += fmt::format("layer {:3} has rows at other positions, or of other log masses\n", layer);
    for (const BlockKind kind : {BlockKind::kKey, BlockKind::kValue}) {
      CELSLM_TRY(const std::vector<float> left, read_plane(a, layer, kind));
      CELSLM_TRY(const std::vector<float> right, read_plane(b, layer, kind));
      add_plane(out, layer, kind == BlockKind::kKey ? "K" : "V", left, right);
    }
  }
  return out;
}

}  // namespace celslm
