#include "core/result.h"

namespace celslm {

const char* to_string(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalid: return "invalid";
    case ErrorKind::kNotFound: return "not found";
    case ErrorKind::kMismatch: return "mismatch";
    case ErrorKind::kUnauthorized: return "unauthorized";
    case ErrorKind::kUnavailable: return "unavailable";
    case ErrorKind::kOverloaded: return "overloaded";
    case ErrorKind::kCancelled: return "cancelled";
    case ErrorKind::kIo: return "input/output";
    case ErrorKind::kInternal: return "internal";
  }
  return "unknown";
}

}  // namespace celslm
