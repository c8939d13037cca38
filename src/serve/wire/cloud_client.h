// An edge's view of one cloud: the protocol of docs/http-protocol.md as typed calls.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "core/log.h"
#include "core/mutex.h"
#include "core/result.h"
#include "kv/pack/key_chain.h"
#include "kv/pack/pack.h"
#include "net/access/refusal_log.h"
#include "net/http_client.h"
#include "serve/wire/context_list.h"
#include "serve/wire/kept_key.h"
#include "serve/wire/pack_version_check.h"
#include "serve/wire/protocol.h"

namespace celslm {

// Names a pack of a cloud: the parts of its path.
struct PackName {
  ContextHandle handle;
  Hash256 model;
  std::string codec;
  MadeWith made_with;
  std::uint64_t header_bytes = 0;  // that its header has, if known: what a ByteBudget reserves
};

// Nothing here sends what users wrote: calls contain handles, model ids and byte ranges, and a text only in put_context,
// which a person starts. Thread-safe.
class CloudClient {
 public:
  // pinned: the only key accepted; without it the one in key_file, and without that the first one the cloud presents, which
  // is then stored in key_file (trust on first use). Either way a key that the accepted one vouches for takes its place
  // (follow_key()), which key_file records, too.
  CloudClient(std::unique_ptr<HttpClient> http, std::optional<PublicKey> pinned, std::filesystem::path key_file, Log log);

  // A peer: another edge, which serves packs that `cloud` signed.
  CloudClient(std::unique_ptr<HttpClient> http, std::shared_ptr<CloudClient> cloud, Log log);

  std::string url() const { return http_->base_url(); }

  // Whether a person has named the only key accepted: none is taken on trust.
  bool key_is_pinned() const { return signer_ ? signer_->key_is_pinned() : pinned_; }
  // kMismatch if the cloud presents a key other than the one pinned or stored.
  Result<PublicKey> key();
  // The same without a request: kNotFound if it is neither pinned nor stored.
  Result<PublicKey> known_key() CELSLM_EXCLUDES(mutex_);
  // Asks for the key that the cloud presents now, and accepts it if it is the known one, or one to which that leads by links
  // of which each is signed by the key before. kMismatch for any other, once in the log for each; else as key().
  Status follow_key() CELSLM_EXCLUDES(mutex_);

  // The list of contexts, or what changed of it; nullopt: nothing did.
  struct ListQuery {
    std::string since;                   // a revision of this cloud's; empty: all of it is asked for
    std::chrono::seconds wait{0};        // how long the cloud may hold its answer until something changes
    std::chrono::milliseconds limit{0};  // for all of the call; 0: as long as bytes come
    std::stop_token stop;
  };
  // kInvalid for an answer that is no list, or not to this query.
  Result<std::optional<ContextList>> contexts(const ListQuery& query);
  Result<std::vector<HostedModel>> models();
  // kMismatch if the text is not the handle's, or not this tenant's.
  Result<std::string> context_text(const ContextHandle& handle, const std::string& tenant = {});
  // prefill: the cloud computes its KV at once rather than at the first request for it.
  // For this tenant. A cloud that knows this edge by a key registers for that key's tenant, whichever is named here.
  Result<ContextInfo> put_context(std::string_view text, std::string_view name, bool prefill,
                                  const std::string& tenant = {});
  Status remove_context(const ContextHandle& handle, const std::string& tenant = {});

  // The header of a finished pack, or the identity of one that is being computed now.
  struct OpenedPack {
    PackIdentity identity;
    std::vector<BlockEntry> blocks;  // empty while computing
    Bytes header;                    // as received; empty while computing
  };
  // kInvalid, without a request, where the cloud's list has named a version of packs that this program cannot read.
  Result<OpenedPack> open(const PackName& pack, std::stop_token stop);

  // The same, and behind the header of a finished pack the bytes of its blocks [first, first + count), in pieces as they
  // arrive: on_open first, then on_bytes; either returning false ends it with kCancelled. An error after on_open is one of
  // reading blocks. The identity of a pack that is being computed is returned.
  struct BlockReading {
    int first = 0;
    int count = 0;
    std::uint64_t max_bytes = 0;  // that these blocks may have
    std::function<bool(OpenedPack)> on_open;
    std::function<bool(ByteView)> on_bytes;
  };
  Result<std::optional<PackIdentity>> open_reading(const PackName& pack, const BlockReading& reading, std::stop_token stop);

  // Calls on_entry for each signed entry from number `from` on, in order, as they are announced; checks every signature.
  // Ends without error only after the last entry; on_entry returning false ends it with kCancelled.
  Status entries(const PackName& pack, const PackIdentity& identity, int from,
                 const std::function<bool(const SignedEntry&)>& on_entry, std::stop_token stop);

  // For the log: a pack that was received is not the one that was asked for. One line for many.
  void report_wrong_pack();

  // Bytes [first, end) of the block region, in pieces as they arrive; on_bytes returning false ends it with kCancelled.
  Status blocks(const PackName& pack, ByteRange range, const std::function<bool(ByteView)>& on_bytes, std::stop_token stop);

 private:
  // expected_body_bytes: HttpCall's.
  Result<HttpAnswer> get(const std::string& path, std::size_t max_body_bytes, std::stop_token stop = {},
                         std::uint64_t expected_body_bytes = 0);
  struct ShownKey {
    PublicKey key;
    std::vector<KeyLink> links;  // that lead to it from earlier ones
  };
  Result<ShownKey> ask_key();
  Status read_key_file() CELSLM_REQUIRES(mutex_);
  Status accept(const ShownKey& shown, const PublicKey& known) CELSLM_EXCLUDES(mutex_);
  // Logs what a peer may have forged or replayed, and passes it on.
  template <typename T>
  Result<T> reported(Result<T> received);

  const std::unique_ptr<HttpClient> http_;
  const std::shared_ptr<CloudClient> signer_;  // null: itself
  const std::filesystem::path key_file_;
  const bool pinned_ = false;
  const Log log_;
  PackVersionCheck versions_;
  const std::string edge_;  // how the cloud may call this edge: edge_header.h
  Mutex mutex_;
  std::optional<PublicKey> key_ CELSLM_GUARDED_BY(mutex_);
  bool key_file_read_ CELSLM_GUARDED_BY(mutex_) = false;
  KeptKey kept_ CELSLM_GUARDED_BY(mutex_);                      // what the file has, or is to have
  std::optional<PublicKey> refused_ CELSLM_GUARDED_BY(mutex_);  // the last one that the log has
  RefusalLog refusals_;
};

}  // namespace celslm
