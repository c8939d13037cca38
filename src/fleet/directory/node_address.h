// The address under which a node says that it can be reached.
#pragma once

#include <string_view>

#include "core/result.h"

namespace celslm {

inline constexpr std::size_t kMaxNodeUrlBytes = 255;  // a name in DNS has no more, and a record is small

// An address out of the directory is what somebody else wrote: kInvalid unless it is http:// or https:// with a host and a
// port and nothing else (no user, no path, no query), and for addresses that no node has: unspecified, multicast and
// link-local ones, where hosting providers keep the secrets of a machine.
Status check_node_url(std::string_view url);

}  // namespace celslm
