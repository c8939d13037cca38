// How long this box takes for a layer of a context.
#pragma once

#include "core/clock.h"
#include "core/result.h"
#include "model/engine/engine.h"

namespace celslm {

// Seconds per unit of layer_work, by computing the first layers of a made-up context: well under a second on a box that is
// fit for the model. 0 for a clock that stands still. A first layer ever computed takes several times as long as the next
// (its weights come from the disk, threads start, caches are cold), so that without this the first context would be
// misjudged.
Result<double> measure_layer_speed(Engine& engine, const Clock& clock);

}  // namespace celslm
