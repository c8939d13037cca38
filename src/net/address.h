// Classifies host names and addresses without resolving them.
#pragma once

#include <string_view>

namespace celslm {

// True for "localhost", 127.0.0.0/8 and ::1, where a server may listen without TLS. Other names are not resolved: false.
bool is_loopback(std::string_view host);

// An IPv4 or IPv6 address, the latter with brackets or without.
bool is_address(std::string_view host);

// An IPv6 address as sockets take it: "[::1]", its form in a URL, becomes "::1". Others as they are.
std::string_view unbracketed(std::string_view host);

}  // namespace celslm
