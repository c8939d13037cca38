#include "plan/policy.h"

#include <algorithm>

namespace celslm {

const char* to_string(RequestPolicy policy) {
  switch (policy) {
    case RequestPolicy::kEdgeOnly: return "edge-only";
    case RequestPolicy::kFleet: return "fleet";
    case RequestPolicy::kCloud: return "cloud";
  }
  return "?";
}

std::optional<RequestPolicy> policy_from(std::string_view name) {
  for (const RequestPolicy policy : {RequestPolicy::kEdgeOnly, RequestPolicy::kFleet, RequestPolicy::kCloud}) {
    if (name == to_string(policy)) return policy;
  }
  return std::nullopt;
}

RequestPolicy effective_policy(std::optional<RequestPolicy> asked, RequestPolicy usual, RequestPolicy widest) {
  return std::min(asked.value_or(usual), widest);
}

}  // namespace celslm
