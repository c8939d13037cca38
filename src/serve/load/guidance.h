// What the KV of contexts owes to a larger model.
#pragma once

#include <cstdint>

namespace celslm {

enum class Guidance : std::uint8_t {
  kNone,     // nothing: the model's own KV
  kMapped,   // it is the larger model's, through a layer map
  kTuned,    // the model's own with a tuning's constants added
  kStudied,  // trained for each context on what the larger model answers about it
};

}  // namespace celslm
