// A pack in this edge's own store.
#pragma once

#include "kv/store/pack_store.h"
#include "serve/load/block_source.h"

namespace celslm {

class DiskSource final : public BlockSource {
 public:
  DiskSource(StoredPack pack, std::shared_ptr<PackStore> store) : pack_(std::move(pack)), store_(std::move(store)) {}

  Source kind() const override { return Source::kDisk; }
  std::string name() const override { return "disk"; }
  SourceTraits traits() const override;
  Status open(const Announce& announce, const EarlyRead* early, std::stop_token stop) override;
  Status read(std::span<const BlockEntry> entries, const Reader& reader, std::stop_token stop) override;
  void discard(const Error& why) override { store_->discard(pack_, why); }
  Result<Bytes> header(std::stop_token stop) override;

 private:
  const StoredPack pack_;
  const std::shared_ptr<PackStore> store_;
};

}  // namespace celslm
