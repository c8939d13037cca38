// Who sent a request, as far as the server could make sure of it.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace celslm {

class KeyUse;  // net/access/key_meter.h

// A server that asks nobody who they are has one kind of caller, which may do everything: the values here. So may nodes
// (a client certificate, or the server's own token), unless they act for one tenant (kTenantHeader).
struct Caller {
  std::string address;          // numeric
  std::string key;              // its name in the keys file; "token" for the server's own token; empty: none
  std::string certificate;      // the name in the client certificate, which the authority has signed; empty: none
  std::string tenant;           // whose contexts it may use; empty: the default tenant's
  bool all_tenants = true;      // it may see the contexts of all tenants, and act for each
  bool is_operator = true;      // it may read /metrics, and the status of all tenants
  std::string widest_policy;    // of the key: "edge-only", "fleet" or "cloud"; empty: the key limits nothing
  std::shared_ptr<KeyUse> use;  // of the key, while the request lasts; null without a key of the keys file

  bool sees(std::string_view tenant_of_context) const { return all_tenants || tenant == tenant_of_context; }
};

// By which a node acts for one tenant: its name. Sent by others it is ignored.
inline constexpr const char* kTenantHeader = "x-celslm-tenant";

}  // namespace celslm
