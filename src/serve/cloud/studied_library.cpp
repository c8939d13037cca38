#include "serve/cloud/studied_library.h"

#include <algorithm>
#include <set>

#include "kv/pack/places.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;

// In order of name, so that a cloud offers the same after every start.
Result<std::set<fs::path>> files_of(const fs::path& folder) {
  std::set<fs::path> out;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".gguf") out.insert(it->path());
  }
  if (error)
    return fail(ErrorKind::kIo, "{}: cannot read the folder of studied contexts: {}", folder.string(), error.message());
  return out;
}

Status check_fits(const StudiedFile& file, const PackIdentity& identity) {
  const StudiedContext& context = file.context;
  if (file.study.id != identity.study) return fail(ErrorKind::kMismatch, "the file has changed since the cloud was started");
  if (context.tokens != identity.tokens)
    return fail(ErrorKind::kMismatch, "it was made from {} tokens that are not the context's {} here", context.tokens.size(),
                identity.tokens.size());
  const ModelFingerprint& model = identity.model;
  const auto is = [](int a, std::uint32_t b) { return static_cast<std::uint32_t>(a) == b; };
  if (context.kv.layers.size() == model.n_layers && is(context.n_kv_heads, model.n_kv_heads) &&
      is(context.head_dim, model.head_dim))
    return {};
  return fail(ErrorKind::kMismatch, "it has {} layers of {} KV heads of {}; the model {} of {} of {}",
              context.kv.layers.size(), context.n_kv_heads, context.head_dim, model.n_layers, model.n_kv_heads,
              model.head_dim);
}

// Encodes one pack's blocks in order.
class StudiedEncoder {
 public:
  StudiedEncoder(const PackIdentity& identity, const Codec& codec, PackWriter& writer)
      : identity_(identity), codec_(codec), writer_(writer) {}

  Status add(const CondensedLayer& layer, const std::vector<float>& key_weights) {
    RowPlaces places;
    places.positions = layer.positions;
    places.log_mass = layer.log_mass;
    for (int chunk = 0; chunk < identity_.n_chunks(); ++chunk) {
      const auto first = static_cast<std::size_t>(chunk) * static_cast<std::size_t>(identity_.block_tokens());
      const auto n = static_cast<std::size_t>(identity_.shape(BlockKind::kPlaces, chunk).n_tokens);
      CELSLM_CHECK_OK(put(encode_places(places.rows(first, n, identity_.model.n_kv_heads))));
    }
    CELSLM_CHECK_OK(add_plane(BlockKind::kKey, layer.k, key_weights));
    return add_plane(BlockKind::kValue, layer.v, {});
  }
  std::span<const BlockEntry> entries() const { return entries_; }

 private:
  Status add_plane(BlockKind kind, std::span<const float> values, ChannelWeights weights) {
    for (int chunk = 0; chunk < identity_.n_chunks(); ++chunk) {
      const BlockShape shape = identity_.shape(kind, chunk);
      CELSLM_TRY(Bytes bytes, codec_.encode(shape, values.first(shape.values()), weights));
      values = values.subspan(shape.values());
      CELSLM_CHECK_OK(put(std::move(bytes)));
    }
    return {};
  }

  Status put(Bytes bytes) {
    const auto block = VerifiedBlock::make(static_cast<int>(entries_.size()), end_, std::move(bytes));
    entries_.push_back(block.entry());
    end_ += block.entry().bytes;
    return writer_.put(block);
  }

  const PackIdentity& identity_;
  const Codec& codec_;
  PackWriter& writer_;
  std::vector<BlockEntry> entries_;
  std::uint64_t end_ = 0;
};

Result<StoredPack> encode(const PackIdentity& identity, const fs::path& path, const KvProducer& model, PackStorage& storage,
                          const SigningKey& key) {
  CELSLM_TRY(const StudiedFile file, read_studied(path));
  CELSLM_CHECK_OK(check_fits(file, identity));
  CELSLM_TRY(const Codec* codec, find_codec(identity.codec));
  CELSLM_TRY(const auto writer, storage.create(identity));
  StudiedEncoder encoder(identity, *codec, *writer);
  for (std::size_t i = 0; i < file.context.kv.layers.size(); ++i) {
    const std::vector<float> weights = codec->exact_for() ? std::vector<float>() : model.key_weights(static_cast<int>(i));
    CELSLM_CHECK_OK(encoder.add(file.context.kv.layers[i], weights));
  }
  CELSLM_CHECK_OK(writer->commit(encode_header(identity, encoder.entries(), key)));
  return storage.find(identity.id());
}

}  // namespace

Result<std::unique_ptr<StudiedLibrary>> StudiedLibrary::open(const fs::path& folder,
                                                             std::span<const std::shared_ptr<KvProducer>> models,
                                                             const Log& log) {
  std::unique_ptr<StudiedLibrary> out(new StudiedLibrary);
  if (folder.empty()) return out;
  CELSLM_TRY(const auto files, files_of(folder));
  for (const fs::path& path : files) {
    if (const Status added = out->add(path, models); !added) log->warn("{}; it is left out", added.error().message);
  }
  return out;
}

Status StudiedLibrary::add(const fs::path& path, std::span<const std::shared_ptr<KvProducer>> models) {
  CELSLM_TRY(const StudiedFile file, read_studied(path));
  const auto model = std::ranges::find_if(models, [&](const auto& each) {
    return each->model().fingerprint.id() == file.context.model && made_with(each->model()).none();
  });
  if (model == models.end())
    return fail(ErrorKind::kMismatch, "{}: it is of the model {}, which is not hosted here", path.string(),
                file.context.model.hex());
  const ContextHandle& handle = file.context.context;
  if (std::ranges::contains(offers(handle), file.context.model, &StudiedOffer::model))
    return fail(ErrorKind::kInvalid, "{}: another file has this context and model already", path.string());
  entries_.emplace(handle,
                   Entry{.path = path, .offer = {.model = file.context.model, .study = file.study}, .model = *model});
  return {};
}

std::vector<StudiedOffer> StudiedLibrary::offers(const ContextHandle& handle) const {
  std::vector<StudiedOffer> out;
  const auto [first, last] = entries_.equal_range(handle);
  for (auto it = first; it != last; ++it) out.push_back(it->second.offer);
  return out;
}

Result<ContextStudy> StudiedLibrary::find(const ContextHandle& handle, const Hash256& model, const Hash256& study) const {
  for (const StudiedOffer& offer : offers(handle)) {
    if (offer.model == model && offer.study.id == study) return offer.study;
  }
  return fail(ErrorKind::kNotFound, "no study {} of context {} for model {} here", study.hex(), handle.hex(), model.hex());
}

Result<StoredPack> StudiedLibrary::pack(const PackIdentity& identity, PackStorage& storage, const SigningKey& key) {
  const auto it =
      std::ranges::find_if(entries_, [&](const auto& each) { return each.second.offer.study.id == identity.study; });
  if (it == entries_.end()) return fail(ErrorKind::kNotFound, "no study {} here", identity.study.hex());
  const MutexLock lock(encoding_);
  if (auto stored = storage.find(identity.id())) return stored;
  auto made = encode(identity, it->second.path, *it->second.model, storage, key);
  return made ? std::move(made) : wrap(std::move(made).error(), it->second.path.string());
}

}  // namespace celslm
