// Which blocks a source should be asked for next.
#pragma once

#include <optional>

#include "core/clock.h"
#include "plan/load_status.h"

namespace celslm {

// Blocks that are missing and asked of nobody, in the order that the forecast recommends; when there are none left for this
// source, those that another source will deliver last, if this one would have them earlier (a hedge). nullopt: nothing until
// something changes.
std::optional<BlockRange> choose_blocks(const LoadStatus& status, SourceId source, TimePoint now);

}  // namespace celslm
