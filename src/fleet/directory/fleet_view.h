// What a node knows of the others of its fleet: a snapshot in memory, so that no request waits for the directory.
#pragma once

#include <memory>
#include <vector>

#include "core/clock.h"
#include "fleet/directory/held_packs.h"
#include "fleet/directory/node_record.h"

namespace celslm {

struct FleetNode {
  NodeRecord record;
  std::shared_ptr<const HeldPacks> held;  // never null; empty: it announces none, or the list was not read yet
};

// Immutable. Everything in it was written by others and passed a strict parse, and nothing more: addresses may lie, and
// what comes from them is checked as whatever comes from a neighbour.
struct FleetView {
  std::vector<FleetNode> nodes;  // without this node itself, in no particular order
  TimePoint read_at{};           // by this node's clock; zero: never
};

}  // namespace celslm
