// Who may see what a user asks: the policy of a request.
#pragma once

#include <optional>
#include <string_view>

namespace celslm {

// Each allows what those before it allow.
enum class RequestPolicy {
  kEdgeOnly,  // nothing of the user's leaves the edge that was asked
  kFleet,     // a trusted neighbour may answer
  kCloud,     // the large model may answer
};

const char* to_string(RequestPolicy policy);  // "edge-only", "fleet", "cloud"
std::optional<RequestPolicy> policy_from(std::string_view name);

// What applies to a request: what it asks for, or what is usual where it asks for nothing, but never more than `widest`,
// which its key (or the edge) allows.
RequestPolicy effective_policy(std::optional<RequestPolicy> asked, RequestPolicy usual, RequestPolicy widest);

}  // namespace celslm
