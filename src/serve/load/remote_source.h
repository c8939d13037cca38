// A pack at a cloud, or at a neighbouring edge that serves the cloud's packs.
#pragma once

#include <optional>

#include "core/mutex.h"
#include "serve/load/block_source.h"
#include "serve/wire/cloud_client.h"

namespace celslm {

struct RemoteOptions {
  bool is_neighbour = false;
  bool key_bias = false;  // of the model: packs of version 1 are refused
  int n_connections = 4;
  std::uint64_t max_bytes = UINT64_MAX;  // that it may still be asked for
};

class RemoteSource final : public BlockSource {
 public:
  RemoteSource(std::shared_ptr<CloudClient> client, PackName name, PackIdentity identity, const RemoteOptions& options)
      : client_(std::move(client)), pack_(std::move(name)), identity_(std::move(identity)), options_(options) {}

  Source kind() const override { return options_.is_neighbour ? Source::kPeer : Source::kCloud; }
  std::string name() const override { return client_->url(); }
  SourceTraits traits() const override;
  // kMismatch: another pack than the one expected. kNotFound, for a cloud, names the field in which its models differ from
  // ours.
  Status open(const Announce& announce, const EarlyRead* early, std::stop_token stop) override;
  Status read(std::span<const BlockEntry> entries, const Reader& reader, std::stop_token stop) override;
  Result<Bytes> header(std::stop_token stop) override;

 private:
  Status open_pack(const Announce& announce, const EarlyRead* early, std::stop_token stop);
  Result<std::optional<PackIdentity>> open_with_blocks(const Announce& announce, const EarlyRead& early,
                                                       std::stop_token stop);
  Result<std::optional<PackIdentity>> open_header(const Announce& announce, std::stop_token stop);
  Status take_header(CloudClient::OpenedPack opened, const Announce& announce);
  Status check(const PackIdentity& offered) const;
  Error explain(Error error) const;

  const std::shared_ptr<CloudClient> client_;
  const PackName pack_;
  const PackIdentity identity_;
  const RemoteOptions options_;
  Mutex mutex_;
  Bytes header_ CELSLM_GUARDED_BY(mutex_);  // empty until known
};

}  // namespace celslm
