// Logging is a capability handed down from main; libraries never print.
#pragma once

#include <spdlog/logger.h>

#include <memory>
#include <string_view>

#include "core/result.h"

namespace celslm {

using Log = std::shared_ptr<spdlog::logger>;

Log null_log();
// To standard error, "trace" to "off".
Result<Log> stderr_log(std::string_view name, std::string_view level);

}  // namespace celslm
