#include "serve/cloud/refusals.h"

#include <fmt/format.h>

#include "serve/wire/errors.h"

namespace celslm {

HttpResponse unknown_context(const std::string& handle) {
  return error_response(ApiError::kUnknownContext,
                        fmt::format("no context '{}' is registered here: register its text with POST /v1/contexts", handle));
}

HttpResponse context_refused(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kInvalid: return error_response(ApiError::kInvalidContext, error.message);
    case ErrorKind::kIo: return error_response(ApiError::kInsufficientStorage, error.message);
    default: return error_response(error);
  }
}

}  // namespace celslm
