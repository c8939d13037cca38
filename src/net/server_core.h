// What the connections of a server share.
#pragma once

#include <array>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <functional>
#include <memory>

#include "net/body_memory.h"
#include "net/connection_table.h"
#include "net/producer_call.h"
#include "net/request_gate.h"

namespace celslm {

// Threads: `settings`, `run_handler` and `run_soon` any; `io` any for posting; all else the I/O thread's, which runs `io`.
// Connections hold it, so it lives until the last has closed.
struct ServerCore {
  explicit ServerCore(ServerSettings server_settings)
      : settings(std::move(server_settings)), bodies(settings.options.body_memory_bytes, settings.options.memory) {}

  ServerSettings settings;
  // Runs a handler on a thread that may block; false if too many wait. is_open: it is one of the open paths'.
  std::function<bool(bool is_open, std::function<void()>)> run_handler;
  RunSoon run_soon;

  boost::asio::io_context io{1};
  ConnectionTable table;
  std::array<char, 64U << 10> scratch{};  // for every read: a connection that waits has no buffer
  BodyMemory bodies;
};

}  // namespace celslm
