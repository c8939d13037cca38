#include "cli/audit/packet_watch.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace celslm {
namespace {

constexpr std::size_t kPacketBytes = 512;  // of a packet, that are kept
constexpr std::size_t kIpv6Header = 40;
constexpr std::uint8_t kTcpFlags = 13;  // where the flags are in a TCP header
constexpr std::uint8_t kSynAndAck = 0x12;
constexpr std::uint8_t kSyn = 0x02;

std::uint8_t octet(std::string_view packet, std::size_t at) {
  return at < packet.size() ? static_cast<std::uint8_t>(packet[at]) : 0;
}

int big_endian(std::string_view packet, std::size_t at) {
  return octet(packet, at) << 8 | octet(packet, at + 1);
}

std::string address_of(int family, std::string_view packet, std::size_t at) {
  const std::size_t size = family == AF_INET ? 4 : 16;
  if (at + size > packet.size()) return "";
  std::array<char, INET6_ADDRSTRLEN> text{};
  return ::inet_ntop(family, packet.data() + at, text.data(), text.size()) == nullptr ? "" : text.data();
}

// The kernel's own answers to what reaches nobody.
bool is_error_report(std::uint8_t protocol, std::uint8_t type) {
  constexpr std::uint8_t kUnreachable = 3;
  constexpr std::uint8_t kRequests = 128;  // ICMPv6: below are errors
  return (protocol == IPPROTO_ICMP && type == kUnreachable) || (protocol == IPPROTO_ICMPV6 && type < kRequests);
}

std::string protocol_name(std::uint8_t protocol) {
  switch (protocol) {
    case IPPROTO_TCP: return "TCP";
    case IPPROTO_UDP: return "UDP";
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6: return "ICMP";
    default: return fmt::format("IP protocol {}", protocol);
  }
}

}  // namespace

int open_packet_socket() {
  // Loads from the IP header on, since the socket is of the kind SOCK_DGRAM.
  constexpr auto kProtocol = static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_PROTOCOL);
  constexpr auto kPacketType = static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_PKTTYPE);
  std::array<sock_filter, 17> code{{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kPacketType),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 0, 14),  // what loopback receives it has sent, too
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kProtocol),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 5),
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 9),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 0, 9),
      BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
      BPF_STMT(BPF_LD | BPF_B | BPF_IND, kTcpFlags),
      BPF_JUMP(BPF_JMP | BPF_JA, 4, 0, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IPV6, 0, 5),
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 6),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 0, 3),
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kIpv6Header + kTcpFlags),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, kSynAndAck),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kSyn, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, kPacketBytes),
      BPF_STMT(BPF_RET | BPF_K, 0),
  }};
  const sock_fprog filter{.len = code.size(), .filter = code.data()};
  const int socket = ::socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (socket < 0 || ::setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) != 0) return -1;
  sockaddr_ll all{};
  all.sll_family = AF_PACKET;
  all.sll_protocol = htons(ETH_P_ALL);
  return ::bind(socket, reinterpret_cast<const sockaddr*>(&all), sizeof all) == 0 ? socket : -1;
}

std::optional<Attempt> attempt_of(std::uint16_t ethernet_type, std::string_view packet) {
  if (ethernet_type != ETH_P_IP && ethernet_type != ETH_P_IPV6)
    return Attempt{.protocol = fmt::format("Ethernet type {:04x}", ethernet_type), .payload = std::string(packet)};
  const bool v4 = ethernet_type == ETH_P_IP;
  const std::uint8_t protocol = octet(packet, v4 ? 9 : 6);
  const std::size_t header = v4 ? static_cast<std::size_t>(octet(packet, 0) & 0xF) * 4 : kIpv6Header;
  if (is_error_report(protocol, octet(packet, header))) return std::nullopt;
  const bool has_port = protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
  constexpr std::size_t kUdpHeader = 8;
  const std::size_t payload = std::min(packet.size(), header + kUdpHeader);
  return Attempt{.protocol = protocol_name(protocol),
                 .address = address_of(v4 ? AF_INET : AF_INET6, packet, v4 ? 16 : 24),
                 .port = has_port ? big_endian(packet, header + 2) : 0,
                 .payload = protocol == IPPROTO_TCP ? "" : std::string(packet.substr(payload))};
}

Result<std::vector<Attempt>> read_attempts(const Fd& packets) {
  std::vector<Attempt> out;
  std::array<char, kPacketBytes> buffer;
  for (;;) {
    sockaddr_ll from{};
    socklen_t size = sizeof from;
    const ssize_t n = ::recvfrom(packets.get(), buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;
    auto attempt = attempt_of(ntohs(from.sll_protocol), {buffer.data(), static_cast<std::size_t>(n)});
    if (attempt) out.push_back(*std::move(attempt));
  }
  tpacket_stats lost{};
  socklen_t size = sizeof lost;
  if (::getsockopt(packets.get(), SOL_PACKET, PACKET_STATISTICS, &lost, &size) == 0 && lost.tp_drops > 0)
    return fail(ErrorKind::kUnavailable, "{} packets of the edge's network were not recorded: try again", lost.tp_drops);
  return out;
}

}  // namespace celslm
