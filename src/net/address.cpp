#include "net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <string>

namespace celslm {

std::string_view unbracketed(std::string_view host) {
  return host.starts_with('[') && host.ends_with(']') ? host.substr(1, host.size() - 2) : host;
}

bool is_address(std::string_view host) {
  const std::string text(unbracketed(host));
  in_addr v4{};
  in6_addr v6{};
  return ::inet_pton(AF_INET, text.c_str(), &v4) == 1 || ::inet_pton(AF_INET6, text.c_str(), &v6) == 1;
}

bool is_loopback(std::string_view host) {
  host = unbracketed(host);
  if (host == "localhost") return true;
  const std::string text(host);
  if (in_addr v4{}; ::inet_pton(AF_INET, text.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6{};
  if (::inet_pton(AF_INET6, text.c_str(), &v6) != 1) return false;
  return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
}

}  // namespace celslm
