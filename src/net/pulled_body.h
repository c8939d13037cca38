// A pushed body whose pieces are made when there is room for them: files, and whatever else need not be made at once.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/result.h"
#include "net/http_types.h"

namespace celslm {

// For HttpResponse::pushed. next: the next piece, nullopt behind the last; an error aborts the body. It is called one call
// at a time, on threads of the server's, may read a disk, and is released with the end of the body.
std::function<void(std::shared_ptr<BodyWriter>)> pulled_body(std::function<Result<std::optional<std::string>>()> next);

}  // namespace celslm
