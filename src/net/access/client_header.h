// How a node that passes requests on tells its clients apart.
#pragma once

namespace celslm {

// Any name (is_key_name()), such as a hash. It becomes part of HttpRequest::client, so that KV of one client's requests is
// not used for another's: whoever sends it can only keep requests apart.
inline constexpr const char* kClientHeader = "x-celslm-client";

}  // namespace celslm
