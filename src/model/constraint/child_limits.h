// Limits on this process, for a child that runs a grammar.
#pragma once

#include "model/constraint/constraint_child.h"

namespace celslm {

// From here on: no new descriptors, processes, privileges or dumps; memory and processor time as given; the first to be
// ended when the machine runs out of memory; ended with its parent. A process that exceeds them, or crashes, sends kTooSlow
// or kCrashed on `socket` before it ends.
void limit_this_process(int socket, const ChildLimits& limits);

// Around what one question costs.
void start_step_timer(const ChildLimits& limits);
void stop_step_timer();

}  // namespace celslm
