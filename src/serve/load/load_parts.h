// What the loads of an edge share.
#pragma once

#include <chrono>
#include <memory>

#include "core/clock.h"
#include "core/log.h"
#include "kv/pack/pack.h"
#include "kv/store/pack_store.h"
#include "model/engine/model.h"
#include "model/kv/kv_tuning.h"
#include "serve/load/disk_thread.h"
#include "serve/load/load_observer.h"
#include "serve/load/source_memory.h"

namespace celslm {

inline constexpr Duration kSourceBackoff = std::chrono::seconds(5);  // how long a source that failed is not asked again

// Log and clock are thread-safe, as all the rest.
struct LoadParts {
  std::shared_ptr<const Model> model;
  std::shared_ptr<PackStore> store;  // may be null
  std::shared_ptr<DiskThread> disk;  // writes to the store
  std::shared_ptr<SourceMemory> memory;
  std::shared_ptr<const KvTuning> tuning;  // of the KV of all contexts; null: none
  bool mix_arithmetic = false;             // see LoaderOptions
  const Clock* clock = nullptr;
  LoadObserver* observer = nullptr;  // may be null
  Log log;
};

// Whether rows of this pack may stand beside rows that this machine computes: both have the same bits, or it is allowed.
inline bool may_mix(const LoadParts& parts, const PackIdentity& identity) {
  const Arithmetic here = parts.model->fingerprint().arithmetic;
  const bool same_bits = here == identity.model.arithmetic && here != Arithmetic::kDevice;
  return same_bits || parts.mix_arithmetic;
}

}  // namespace celslm
