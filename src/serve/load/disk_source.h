// A pack in this edge's own store.
#pragma once

#include "kv/store/pack_store.h"
#include "serve/load/block_source.h"

namespace celslm {

class DiskSource final : public BlockSource {
 public:
  explicit DiskSource(StoredPack pack) : pack_(std::move(pack)) {}

  Source kind() const override { return Source::kDisk; }
  std::string name() const override { return "disk"; }
  SourceTraits traits() const override;
  Status open(const Announce& announce, const EarlyRead* early, std::stop_token stop) override;
  Status read(std::span<const BlockEntry> entries, const Reader& reader, std::stop_token stop) override;
  Result<Bytes> header(std::stop_token stop) override;

 private:
  const StoredPack pack_;
};

}  // namespace celslm
