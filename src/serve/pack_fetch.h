// One pack on its way from a cloud into a resident context: block entries as they are announced, groups of blocks as they
// are asked for, layers as they become whole.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <vector>

#include "core/result.h"
#include "kv/pack.h"
#include "kv/pack_store.h"
#include "model/model.h"
#include "serve/cloud_client.h"
#include "serve/resident_context.h"

namespace celslm {

// Decodes one block and writes it into the context's segment at its place. Thread-safe for distinct blocks.
Status import_block(const Model& model, const PackIdentity& identity, int index, const BlockEntry& entry, ByteView bytes,
                    KvSegment& segment);

// Hands out announced blocks in order, in groups that one request fetches: adjacent, of one layer, about a quarter of a
// megabyte. Thread-safe.
class BlockQueue {
 public:
  explicit BlockQueue(const PackIdentity& identity);

  void announce(const BlockEntry& entry);  // the next one
  // No more announcements; with an error, takers get it at once.
  void close(std::optional<Error> error);

  struct Group {
    int first = 0;  // block index
    std::vector<BlockEntry> entries;
    ByteRange range() const { return {entries.front().offset, entries.back().offset + entries.back().bytes}; }
  };
  // Waits for the next group; nullopt when every block has been taken; the error if closed with one.
  Result<std::optional<Group>> take();
  // All entries, once all were announced.
  std::vector<BlockEntry> entries() const;

 private:
  const PackIdentity& identity_;
  mutable std::mutex mutex_;
  std::condition_variable more_;
  std::vector<BlockEntry> entries_;  // protected by mutex_
  int next_ = 0;                     // protected by mutex_
  bool closed_ = false;              // protected by mutex_
  std::optional<Error> error_;       // protected by mutex_
};

// Fetches the whole pack over several connections, shallowest layer first, each block checked before it is used, and keeps
// it in the store if there is one. Returns when every layer of `context` is filled, or with the first error; layers filled
// until then stay filled.
struct PackFetch {
  const Model& model;
  CloudClient& cloud;
  PackStore* store;  // may be null
  ResidentContext& context;
  int n_connections = 4;
  Log log;

  Status run(const PackName& name, const PackIdentity& expected, std::stop_token stop);
};

}  // namespace celslm
