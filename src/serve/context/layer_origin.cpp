#include "serve/context/layer_origin.h"

namespace celslm {

const char* to_string(Source source) {
  switch (source) {
    case Source::kCompute: return "compute";
    case Source::kMemory: return "memory";
    case Source::kDisk: return "disk";
    case Source::kPeer: return "peer";
    case Source::kCloud: return "cloud";
  }
  return "unknown";
}

}  // namespace celslm
