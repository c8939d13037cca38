#include "serve/pack_compute.h"

namespace celslm {
namespace {

// Encodes rows into blocks and puts them where the table will say they are. One pack, one thread.
class PackEncoder {
 public:
  PackEncoder(PackJob& job, const Codec& codec, PackStore::Writer& writer, const SigningKey& key,
              const std::function<void(int)>& on_layer)
      : job_(job), identity_(job.identity), codec_(codec), writer_(writer), key_(key), on_layer_(on_layer) {
    entries_.resize(static_cast<std::size_t>(identity_.n_blocks()));
  }

  // As KvProducer::OnRows. Anything out of order is a bug of the producer and refused, because a hole would be signed as KV.
  Status add(int layer, int first_row, std::span<const float> k, std::span<const float> v) {
    const auto width = static_cast<std::size_t>(identity_.model.n_kv_heads) * identity_.model.head_dim;
    if (layer != layer_ || first_row != rows_ || k.empty() || k.size() != v.size() || k.size() % width != 0) {
      return fail(ErrorKind::kInternal, "rows from {} of layer {} came where row {} of layer {} was due", first_row, layer,
                  rows_, layer_);
    }
    for (std::size_t row = 0; row < k.size() / width; row += kBlockTokens) {
      CELSLM_CHECK_OK(add_chunk(k.subspan(row * width), v.subspan(row * width), width));
    }
    if (rows_ == identity_.n_tokens()) CELSLM_CHECK_OK(finish_layer());
    return {};
  }

  bool finished() const { return layer_ == static_cast<int>(identity_.model.n_layers); }
  std::span<const BlockEntry> entries() const { return entries_; }

 private:
  Status add_chunk(std::span<const float> k, std::span<const float> v, std::size_t width) {
    const int chunk = rows_ / kBlockTokens;
    if (rows_ % kBlockTokens != 0 || chunk >= identity_.n_chunks()) {
      return fail(ErrorKind::kInternal, "row {} of layer {} begins no block", rows_, layer_);
    }
    const int n = identity_.shape(BlockKind::kKey, chunk).n_tokens;
    const std::size_t values = static_cast<std::size_t>(n) * width;
    if (k.size() < values) return fail(ErrorKind::kInternal, "block {} of layer {} came in parts", chunk, layer_);
    CELSLM_CHECK_OK(put({layer_, BlockKind::kKey, chunk}, k.first(values)));
    CELSLM_CHECK_OK(put({layer_, BlockKind::kValue, chunk}, v.first(values)));
    rows_ += n;
    return {};
  }

  Status put(const BlockRef& ref, std::span<const float> values) {
    auto bytes = codec_.encode(identity_.shape(ref.kind, ref.chunk), values);
    if (!bytes) return wrap(std::move(bytes).error(), std::format("layer {}", ref.layer));
    const int index = block_index(identity_, ref);
    entries_[static_cast<std::size_t>(index)] = make_entry(identity_, index, *bytes);
    return writer_.put(index, entries_[static_cast<std::size_t>(index)], *bytes);
  }

  Status finish_layer() {
    std::vector<SignedEntry> signed_entries;
    const int per_layer = 2 * identity_.n_chunks();
    for (int i = layer_ * per_layer; i < (layer_ + 1) * per_layer; ++i) {
      signed_entries.push_back(
          sign_entry(job_.pack_id, static_cast<std::uint32_t>(i), entries_[static_cast<std::size_t>(i)], key_));
    }
    job_.announce(signed_entries);
    if (on_layer_) on_layer_(layer_);
    ++layer_;
    rows_ = 0;
    return {};
  }

  PackJob& job_;
  const PackIdentity& identity_;
  const Codec& codec_;
  PackStore::Writer& writer_;
  const SigningKey& key_;
  const std::function<void(int)>& on_layer_;
  std::vector<BlockEntry> entries_;  // all blocks of the pack, as they come
  int layer_ = 0;                    // being filled
  int rows_ = 0;                     // of it, done
};

}  // namespace

Result<StoredPack> compute_pack(PackJob& job, KvProducer& producer, PackStorage& storage, const SigningKey& key,
                                std::stop_token stop, const std::function<void(int layer)>& on_layer) {
  const PackIdentity& identity = job.identity;
  CELSLM_TRY(const Codec* codec, find_codec(identity.codec));
  CELSLM_TRY(auto created, storage.create(identity, block_region_bytes(identity)));
  const std::shared_ptr<PackStore::Writer> writer = std::move(created);
  job.begin(writer);
  PackEncoder encoder(job, *codec, *writer, key, on_layer);
  const KvType rounding = codec->exact_for().value_or(KvType::kF16);
  CELSLM_CHECK_OK(producer.produce(identity.tokens, rounding, stop,
                                   [&](int layer, int row, auto k, auto v) { return encoder.add(layer, row, k, v); }));
  if (!encoder.finished()) return fail(ErrorKind::kInternal, "{} gave too few layers", producer.model().name);
  CELSLM_CHECK_OK(writer->commit(encode_header(identity, encoder.entries(), key)));
  return storage.find(job.pack_id);
}

}  // namespace celslm
