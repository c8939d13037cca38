// Threads whose making may fail: the machine has a limit on them.
#pragma once

#include <functional>
#include <stop_token>
#include <thread>

#include "core/result.h"

namespace celslm {

// Makes a thread that runs `work`; kOverloaded if the system has none left. Passed in, so that tests can refuse.
using Spawn = std::function<Result<std::jthread>(std::function<void(std::stop_token)> work)>;
Result<std::jthread> spawn_thread(std::function<void(std::stop_token)> work);

}  // namespace celslm
