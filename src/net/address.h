// What a host's name or address tells without asking anybody.
#pragma once

#include <string_view>

namespace celslm {

// "localhost", 127.0.0.0/8, ::1: what may listen without TLS. Other names are not looked up, and not loopback.
bool is_loopback(std::string_view host);

}  // namespace celslm
