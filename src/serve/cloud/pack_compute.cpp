#include "serve/cloud/pack_compute.h"

#include <fmt/format.h>

#include <array>
#include <optional>

#include "kv/pack/layer_state.h"
#include "kv/store/pack_tools.h"

namespace celslm {
namespace {

// Encodes rows into blocks and writes each at the offset that its table entry gets. One pack, one thread.
class PackEncoder {
 public:
  PackEncoder(PackJob& job, const Codec& codec, const KvProducer& producer, PackWriter& writer, const SigningKey& key,
              const std::function<void(int)>& on_layer)
      : job_(job),
        identity_(job.identity),
        codec_(codec),
        producer_(producer),
        writer_(writer),
        key_(key),
        on_layer_(on_layer) {
    width_ = static_cast<std::size_t>(identity_.model.n_kv_heads) * identity_.model.head_dim;
    start_layer();
  }

  // As KvProducer::OnRows. Rows out of order are a bug of the producer and refused, because a gap would be signed as KV.
  Status add(int layer, int first_row, std::span<const float> k, std::span<const float> v) {
    if (layer == layer_ && identity_.model.state_bytes(layer) > 0) return add_state(first_row, k, v);
    const std::size_t rows = k.size() / width_;
    if (layer != layer_ || first_row != rows_ || k.empty() || k.size() != v.size() || k.size() % width_ != 0 ||
        rows > static_cast<std::size_t>(identity_.n_tokens() - rows_)) {
      return fail(ErrorKind::kInternal, "the producer gave rows from {} of layer {}, expected row {} of layer {}", first_row,
                  layer, rows_, layer_);
    }
    CELSLM_CHECK_OK(add_plane(BlockKind::kKey, k));
    CELSLM_CHECK_OK(add_plane(BlockKind::kValue, v));
    rows_ += static_cast<int>(rows);
    return rows_ == identity_.n_tokens() ? finish_layer() : Status();
  }

  Status add_state(int first_row, std::span<const float> state, std::span<const float> rest) {
    if (first_row != 0 || !rest.empty() || state.size_bytes() != identity_.model.state_bytes(layer_))
      return fail(ErrorKind::kInternal, "the producer gave {} bytes as the state of layer {}, expected {}",
                  state.size_bytes(), layer_, identity_.model.state_bytes(layer_));
    planes_.front().blocks.push_back(encode_layer_state(state));
    return finish_layer();
  }

  bool finished() const { return layer_ == static_cast<int>(identity_.model.n_layers); }
  std::span<const BlockEntry> entries() const { return entries_; }

 private:
  // K or V of the layer that is being filled: encoded chunks, and the rows of the next one as far as they have come.
  struct Plane {
    std::vector<Bytes> blocks;
    std::vector<float> rows;
  };

  void start_layer() {
    planes_ = {};
    rows_ = 0;
    const bool has_keys = !finished() && identity_.model.state_bytes(layer_) == 0;
    if (has_keys && !codec_.exact_for()) key_weights_ = producer_.key_weights(layer_);
  }

  Status add_plane(BlockKind kind, std::span<const float> values) {
    Plane& plane = planes_[static_cast<std::size_t>(kind)];
    while (!values.empty()) {
      const BlockShape shape = identity_.shape(kind, static_cast<int>(plane.blocks.size()));
      const auto piece = values.first(std::min(values.size(), shape.values() - plane.rows.size()));
      values = values.subspan(piece.size());
      if (piece.size() == shape.values()) {  // a complete block: no copy
        CELSLM_CHECK_OK(encode(shape, piece, plane));
        continue;
      }
      plane.rows.insert(plane.rows.end(), piece.begin(), piece.end());
      if (plane.rows.size() < shape.values()) continue;
      CELSLM_CHECK_OK(encode(shape, plane.rows, plane));
      plane.rows.clear();
    }
    return {};
  }

  Status encode(const BlockShape& shape, std::span<const float> values, Plane& plane) {
    const bool key = shape.kind == BlockKind::kKey;
    auto bytes = codec_.encode(shape, values, key ? key_weights_ : ChannelWeights());
    if (!bytes) return wrap(std::move(bytes).error(), fmt::format("layer {}", layer_));
    plane.blocks.push_back(*std::move(bytes));
    return {};
  }

  // A block's place is known once all before it are encoded, so a layer's blocks are written when the layer is complete.
  Status finish_layer() {
    std::vector<SignedEntry> signed_entries;
    for (Plane& plane : planes_) {
      for (Bytes& bytes : plane.blocks) {
        const auto block = VerifiedBlock::make(static_cast<int>(entries_.size()), end_, std::move(bytes));
        entries_.push_back(block.entry());
        end_ += block.entry().bytes;
        CELSLM_CHECK_OK(writer_.put(block));
        signed_entries.push_back(sign_entry(job_.pack_id, static_cast<std::uint32_t>(block.index()), block.entry(), key_));
      }
    }
    job_.announce(signed_entries);
    if (on_layer_) on_layer_(layer_);
    ++layer_;
    start_layer();
    return {};
  }

  PackJob& job_;
  const PackIdentity& identity_;
  const Codec& codec_;
  const KvProducer& producer_;
  PackWriter& writer_;
  const SigningKey& key_;
  const std::function<void(int)>& on_layer_;
  std::size_t width_ = 0;            // values of a row of K, or of V
  std::vector<BlockEntry> entries_;  // of the complete layers
  std::uint64_t end_ = 0;            // of the block region so far
  int layer_ = 0;                    // being filled
  int rows_ = 0;                     // of it, come so far
  std::array<Plane, 2> planes_;      // of it; by BlockKind
  std::vector<float> key_weights_;   // of it; empty where they are not known, or not needed
};

bool is_undamaged(const StoredPack& pack) {
  for (int i = 0; i < pack.header.identity.n_blocks(); ++i) {
    if (!pack.block(i)) return false;
  }
  return true;
}

// A pack of the same context whose values are rounded to f16 and to nothing coarser, if one is stored and undamaged: any
// codec but bf16 encodes these values.
std::optional<StoredPack> exact_pack(PackIdentity identity, const Codec& codec, PackStorage& storage) {
  if (codec.exact_for() && codec.exact_for() != KvType::kF16) return std::nullopt;
  for (const Codec* exact : all_codecs()) {
    if (exact->exact_for() != KvType::kF16 || exact->id() == codec.id()) continue;
    identity.codec = exact->id();
    auto pack = storage.find(identity.id());
    if (pack && is_undamaged(*pack)) return *std::move(pack);
  }
  return std::nullopt;
}

// As KvProducer::produce: reading takes a moment, computing takes minutes.
Status replay(const StoredPack& pack, std::stop_token stop, const KvProducer::OnRows& on_rows) {
  for (int layer = 0; layer < static_cast<int>(pack.header.identity.model.n_layers); ++layer) {
    if (stop.stop_requested()) return fail(ErrorKind::kCancelled, "the computation was stopped");
    if (pack.header.identity.model.state_bytes(layer) > 0) {
      CELSLM_TRY(const auto state, read_layer_state(pack, layer));
      CELSLM_CHECK_OK(on_rows(layer, 0, state, {}));
      continue;
    }
    CELSLM_TRY(const auto k, read_plane(pack, layer, BlockKind::kKey));
    CELSLM_TRY(const auto v, read_plane(pack, layer, BlockKind::kValue));
    CELSLM_CHECK_OK(on_rows(layer, 0, k, v));
  }
  return {};
}

// A state is cut into as many parts as a pack of its tokens has chunks; their bytes in a row are it. The first has what the
// others do not.
Status compute_state(PackJob& job, KvProducer& producer, PackWriter& writer, const SigningKey& key, std::stop_token stop) {
  CELSLM_TRY(const Bytes state, producer.produce_state(job.identity.tokens, stop));
  const auto n = static_cast<std::size_t>(job.identity.n_blocks());
  if (state.size() < n) return fail(ErrorKind::kInternal, "a state of {} bytes in {} parts", state.size(), n);
  const std::size_t length = n == 1 ? 0 : std::min<std::size_t>(state.size() / n, block_bytes(job.identity, 1).most);
  std::vector<BlockEntry> entries;
  std::vector<SignedEntry> signed_entries;
  for (std::size_t i = 0, begin = 0; i < n; ++i) {
    const ByteView part = ByteView(state).subspan(begin, i == 0 ? state.size() - (n - 1) * length : length);
    const auto block = VerifiedBlock::make(static_cast<int>(i), begin, Bytes(part.begin(), part.end()));
    begin += part.size();
    CELSLM_CHECK_OK(check_bounds(job.identity, block.index(), block.entry()));
    CELSLM_CHECK_OK(writer.put(block));
    entries.push_back(block.entry());
    signed_entries.push_back(sign_entry(job.pack_id, static_cast<std::uint32_t>(i), block.entry(), key));
  }
  job.announce(signed_entries);
  return writer.commit(encode_header(job.identity, entries, key));
}

}  // namespace

Result<StoredPack> compute_pack(PackJob& job, KvProducer& producer, PackStorage& storage, const SigningKey& key,
                                std::stop_token stop, const std::function<void(int layer)>& on_layer) {
  const PackIdentity& identity = job.identity;
  CELSLM_TRY(const Codec* codec, find_codec(identity.codec));
  CELSLM_TRY(auto created, storage.create(identity));
  const std::shared_ptr<PackWriter> writer = std::move(created);
  job.begin(writer);
  if (identity.opaque()) {
    CELSLM_CHECK_OK(compute_state(job, producer, *writer, key, stop));
    if (on_layer) on_layer(0);
    return storage.find(job.pack_id);
  }
  PackEncoder encoder(job, *codec, producer, *writer, key, on_layer);
  const KvProducer::OnRows add = [&](int layer, int row, auto k, auto v) { return encoder.add(layer, row, k, v); };
  if (const auto exact = exact_pack(identity, *codec, storage)) {
    CELSLM_CHECK_OK(replay(*exact, stop, add));
  } else {
    const KvType rounding = codec->exact_for().value_or(KvType::kF16);
    CELSLM_CHECK_OK(producer.produce(identity.tokens, rounding, stop, add));
  }
  if (!encoder.finished())
    return fail(ErrorKind::kInternal, "{}: the producer ended before the last layer", producer.model().name);
  CELSLM_CHECK_OK(writer->commit(encode_header(identity, encoder.entries(), key)));
  return storage.find(job.pack_id);
}

}  // namespace celslm
