// A pack that another cloud of the fleet has: fetched instead of computed once more.
#pragma once

#include <memory>
#include <stop_token>
#include <vector>

#include "core/result.h"
#include "kv/pack/signing.h"
#include "serve/cloud/pack_compute.h"
#include "serve/cloud/pack_job.h"
#include "serve/wire/cloud_client.h"

namespace celslm {

// Reads the complete pack of job.identity from another cloud, checks its header against the key that both sign with and
// every block against the header, stores it and announces all of its blocks. Until all of it is here nothing is announced,
// so that after an error the pack can be computed instead. kNotFound: the other one does not have it, or only computes it
// now; kMismatch: it has another; otherwise as CloudClient and PackStorage. Does not end the job.
Result<StoredPack> fetch_pack(PackJob& job, CloudClient& from, const PackName& name, PackStorage& storage,
                              const SigningKey& key, std::stop_token stop);

// The end of such a fetch, from wherever: `writer` has all blocks, and becomes a stored pack with its entries announced.
Result<StoredPack> finish_fetched(PackJob& job, const std::shared_ptr<PackWriter>& writer, ByteView header,
                                  const std::vector<BlockEntry>& entries, PackStorage& storage, const SigningKey& key);

}  // namespace celslm
