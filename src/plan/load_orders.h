// What a LoadCoordinator wants done.
#pragma once

#include <cstdint>
#include <optional>
#include <variant>

#include "core/result.h"
#include "plan/transfer.h"

namespace celslm {

// Ask the source for its header and announcements, and in the same request for the blocks of `early`. Ends with opened(),
// the transfer with ended(). Its place is taken.
struct OpenSource {
  SourceId source = 0;
  std::optional<Transfer> early;
};
// Ends with ended(). Its place is taken.
struct ReadBlocks {
  Transfer transfer;
};
// Nothing of it is missing any more, it has stalled, or the load ends: ended() is to come soon.
struct CancelTransfer {
  TransferId transfer = 0;
  SourceId source = 0;
  bool stalled = false;
};
struct CancelOpening {
  SourceId source = 0;
};
// All blocks of the layer are here.
struct LayerComplete {
  int layer = 0;
};
// There is something to compute, for an engine that was told that there is not.
struct WakeEngine {};
// The sources given so far have failed: add others, if there are any, then report fell_back().
struct FallBack {};
// Nothing can be asked of sources, since nobody can be found to ask.
struct GiveUpSources {
  Error why;
};
// The source has been asked for as many bytes as it may be: what it does not bring is computed.
struct SourceSpent {
  SourceId source = 0;
};
// Encode and keep the computed rows that wait for it; ends with rows_kept(). Its place is taken.
struct KeepRows {};
// Everything that was asked for has ended: close what the load owns, then report closed(). on_worker: a place is taken;
// nothing was ever asked for otherwise.
struct CloseLoad {
  bool on_worker = false;
};

using LoadOrder = std::variant<OpenSource, ReadBlocks, CancelTransfer, CancelOpening, LayerComplete, WakeEngine, FallBack,
                               GiveUpSources, SourceSpent, KeepRows, CloseLoad>;

enum class LoadWork : std::uint8_t { kOpen, kRead, kKeep };
inline constexpr int kLoadWorks = 3;

// Places for the work that orders ask for, of one load among all those of an edge.
class WorkPlaces {
 public:
  virtual ~WorkPlaces() = default;
  // True: the caller has a place until its work ends. False: none is free; LoadCoordinator::places_free() is to be called as
  // soon as one is. An error: there will never be one.
  virtual Result<bool> take(LoadWork work) = 0;
  // A place that was taken is not needed after all.
  virtual void put_back(LoadWork work) = 0;
};

}  // namespace celslm
