// A program in a network of its own: it reaches the sockets that are made for it, and nothing else.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "core/result.h"
#include "net/socket.h"

namespace celslm {

// What is made before the program runs.
struct NetworkPlan {
  bool isolated = true;             // in a network namespace of its own; otherwise nothing is made
  std::vector<int> listener_ports;  // listened on, on the namespace's loopback
  int n_sockets = 0;                // unconnected, for connections to the program; with the listeners at most 249
};

// The program's surroundings, for the process that started it. All sockets belong to the program's network wherever they are
// used, and are non-blocking.
struct Network {
  bool isolated = false;
  std::vector<Fd> listeners;
  std::vector<Fd> sockets;
  Fd packets;  // a packet socket that sees every connection and datagram (PacketWatch); empty where not isolated
};

// A program that was started; ended (SIGTERM, after 10 s SIGKILL) and waited for by the destructor, or by the kernel where
// this process is killed.
class IsolatedProgram {
 public:
  IsolatedProgram(pid_t pid, Fd output) : pid_(pid), output_(std::move(output)) {}
  ~IsolatedProgram() { stop(); }
  IsolatedProgram(IsolatedProgram&& other) noexcept
      : pid_(std::exchange(other.pid_, 0)), output_(std::move(other.output_)) {}
  IsolatedProgram& operator=(IsolatedProgram&&) = delete;

  // The URL that it reports to listen on. kUnavailable if it ends, or reports none within two minutes.
  Result<std::string> wait_listening();
  void stop();

 private:
  pid_t pid_;
  Fd output_;
};

struct StartedProgram {
  IsolatedProgram program;
  Network network;
};

// Starts `command` (path and arguments) with standard error appended to `log_file`. The calling thread must outlive the
// program: the kernel ends it with that thread. kUnavailable, naming the step that the system refused, where it allows no
// network namespaces.
Result<StartedProgram> start_program(const std::vector<std::string>& command, const std::string& log_file,
                                     const NetworkPlan& plan);

}  // namespace celslm
