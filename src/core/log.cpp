#include "core/log.h"

#include <spdlog/sinks/null_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>

namespace celslm {

Log null_log() {
  return std::make_shared<spdlog::logger>("null", std::make_shared<spdlog::sinks::null_sink_mt>());
}

Result<Log> stderr_log(std::string_view name, std::string_view level) {
  const auto parsed = spdlog::level::from_str(std::string(level));
  if (parsed == spdlog::level::off && level != "off") {
    return fail(ErrorKind::kInvalid, "no log level '{}': use trace, debug, info, warn, error or off", level);
  }
  auto log = std::make_shared<spdlog::logger>(std::string(name), std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  log->set_level(parsed);
  log->set_pattern("%Y-%m-%d %H:%M:%S.%e %n %^%l%$ %v");
  return log;
}

}  // namespace celslm
