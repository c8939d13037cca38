#include "core/spawn.h"

#include <system_error>

namespace celslm {

Result<std::jthread> spawn_thread(std::function<void(std::stop_token)> work) {
  try {
    return std::jthread(std::move(work));
  } catch (const std::system_error& error) {
    return fail(ErrorKind::kOverloaded, "the system has no thread left: {}", error.what());
  }
}

}  // namespace celslm
