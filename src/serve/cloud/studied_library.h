// Studied contexts in a folder, and signed packs of them.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "core/log.h"
#include "core/mutex.h"
#include "core/result.h"
#include "kv/studied/studied.h"
#include "serve/cloud/kv_producer.h"
#include "serve/cloud/pack_compute.h"
#include "serve/wire/protocol.h"

namespace celslm {

// Files are read when the library is opened, to know what there is, and again for each pack that is made. Thread-safe.
class StudiedLibrary {
 public:
  // All *.gguf of `folder`; an empty path: none. A file that is damaged, of a model that is not among `models`, or the
  // second for its context and model is left out and reported in the log. kIo for a folder that cannot be read.
  static Result<std::unique_ptr<StudiedLibrary>> open(const std::filesystem::path& folder,
                                                      std::span<const std::shared_ptr<KvProducer>> models, const Log& log);

  std::size_t size() const { return entries_.size(); }
  // Of a context, one for each model.
  std::vector<StudiedOffer> offers(const ContextHandle& handle) const;
  // kNotFound unless this context has this study for this model.
  Result<ContextStudy> find(const ContextHandle& handle, const Hash256& model, const Hash256& study) const;

  // The pack of this identity, which must be of a study that find() returned: stored already, or encoded and stored before
  // this returns (a second or two). kMismatch where the file has changed, or was made from other tokens or for a model of
  // another shape; errors of the storage and of codecs.
  Result<StoredPack> pack(const PackIdentity& identity, PackStorage& storage, const SigningKey& key)
      CELSLM_EXCLUDES(encoding_);

 private:
  struct Entry {
    std::filesystem::path path;
    StudiedOffer offer;
    std::shared_ptr<KvProducer> model;
  };
  StudiedLibrary() = default;
  Status add(const std::filesystem::path& path, std::span<const std::shared_ptr<KvProducer>> models);

  std::multimap<ContextHandle, Entry> entries_;  // constant after open()
  Mutex encoding_;                               // one at a time, each once
};

}  // namespace celslm
