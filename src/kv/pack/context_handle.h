// Identifies a registered text.
#pragma once

#include <string_view>

#include "core/hash.h"

namespace celslm {

// The hash of a registered text, independent of any model. A model's tokens of the text are identified by context_id().
using ContextHandle = Hash256;

// Hashes a text to its handle; the tenant's name is hashed already. A byte that no UTF-8 text has comes first where the
// tenant is not the default one (whose name is empty), so that no text of one tenant has the handle of another's.
inline Hasher handle_hasher(std::string_view tenant) {
  Hasher out;
  if (!tenant.empty()) out.update("\xff").update_field(tenant);
  return out;
}

// The same text has a handle of its own for each tenant: neither hits nor handles tell one tenant what another has.
inline ContextHandle context_handle(std::string_view text, std::string_view tenant = {}) {
  return handle_hasher(tenant).update(text).finish();
}

}  // namespace celslm
