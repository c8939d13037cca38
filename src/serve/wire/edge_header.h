// How an edge names itself to its cloud.
#pragma once

namespace celslm {

// Sent when an edge reads from its cloud: a number drawn at the edge's start, which means nothing.
inline constexpr const char* kEdgeHeader = "x-celslm-edge";

}  // namespace celslm
