// Every connection and datagram of a network namespace, by destination.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "net/socket.h"

namespace celslm {

// One attempt to reach somebody.
struct Attempt {
  std::string protocol;  // "TCP", "UDP", "ICMP", "IP protocol 132", "Ethernet type 0806"
  std::string address;   // numeric; empty if there is none
  int port = 0;
  std::string payload;  // the first bytes of a datagram
};

// A packet socket that sees the beginning of each TCP connection and every packet of other protocols, each once; -1 and
// errno if the system refuses. Makes system calls only.
int open_packet_socket();

// What has been seen since the last call. kUnavailable if packets were lost: the record is then incomplete.
Result<std::vector<Attempt>> read_attempts(const Fd& packets);

// What one packet, from its IP header on, attempts. nullopt: nothing, it is the kernel's report of an error.
std::optional<Attempt> attempt_of(std::uint16_t ethernet_type, std::string_view packet);

}  // namespace celslm
