// From a producer's rows to blocks in the store, announced layer by layer.
#pragma once

#include <stop_token>
#include <vector>

#include "core/result.h"
#include "kv/pack/signing.h"
#include "kv/store/pack_store.h"
#include "serve/cloud/kv_producer.h"
#include "serve/cloud/pack_job.h"

namespace celslm {

// Where packs are stored, as an interface, so that tests can simulate a full disk. Thread-safe.
class PackStorage {
 public:
  virtual ~PackStorage() = default;
  virtual Result<StoredPack> find(const Hash256& pack_id) = 0;
  virtual Result<std::unique_ptr<PackWriter>> create(const PackIdentity& identity) = 0;
  virtual std::uint64_t budget_bytes() const = 0;
};

// A PackStore with one signer's packs.
class SignedPackStorage final : public PackStorage {
 public:
  SignedPackStorage(std::unique_ptr<PackStore> store, const PublicKey& signer) : store_(std::move(store)), signer_(signer) {}
  Result<StoredPack> find(const Hash256& pack_id) override { return store_->find(pack_id, signer_); }
  Result<std::unique_ptr<PackWriter>> create(const PackIdentity& identity) override { return store_->create(identity); }
  std::uint64_t budget_bytes() const override { return store_->budget_bytes(); }
  std::uint64_t bytes() const { return store_->bytes(); }
  std::optional<std::uint64_t> free_bytes() const { return store_->free_bytes(); }
  std::vector<PackStore::Listing> list() const { return store_->list(); }
  // A pack of the list, without marking it as used.
  Result<StoredPack> open(const PackStore::Listing& listing) const { return open_pack_file(listing.path, signer_); }

 private:
  const std::unique_ptr<PackStore> store_;
  const PublicKey signer_;
};

// Computes job.identity and returns the stored pack. Announces each layer's blocks as soon as the layer is complete, then
// calls on_layer (may be empty). Where a pack of the same context that is exact for f16 is in the store,
// others are made from it (all but bf16), with the same bytes as if computed. Does not end the job: the caller does, when
// the pack can be found.
Result<StoredPack> compute_pack(PackJob& job, KvProducer& producer, PackStorage& storage, const SigningKey& key,
                                std::stop_token stop, const std::function<void(int layer)>& on_layer);

}  // namespace celslm
