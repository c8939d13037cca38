// How many nodes the graph of a pass gets. ggml aborts when a graph outgrows what it was made for, so the nodes are counted
// before it is made.
#pragma once

#include <cstddef>
#include <span>

#include "model/engine/batch.h"
#include "model/engine/engine.h"
#include "model/engine/graph.h"
#include "model/engine/weights.h"

namespace celslm {

// Exactly what GraphBuilder (graph.cpp) adds; a test compares the two for every kind of model and batch.
std::size_t count_nodes(const ModelConfig& config, const Weights& weights, const PassShape& shape,
                        std::span<const SequenceChunk> batch, KernelPath kernels);

}  // namespace celslm
