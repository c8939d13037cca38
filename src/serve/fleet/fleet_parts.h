// What a server is given to be part of a fleet.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "fleet/directory/member.h"
#include "fleet/store/store.h"

namespace celslm {

struct FleetParts {
  std::unique_ptr<Store> store;  // the member's alone
  std::unique_ptr<Store> work;   // of the thread at a cloud that takes work which another has too much of
  std::unique_ptr<Store> tier;   // of the thread that keeps packs in the store, and of those who read them
  std::unique_ptr<Store> tier_reading;
  std::uint64_t tier_bytes = 0;  // how much the fleet may keep there; 0: this node keeps and reads nothing
  MemberOptions member;
  std::string url;  // under which the others reach this node; empty: where it listens
};

// The name of a fleet: the beginning of the key (64 hex digits) that signs its packs. So nodes that could not use each
// other's packs are no fleet, whatever else they share.
inline std::string fleet_name(const std::string& public_key_hex) {
  return public_key_hex.substr(0, 16);
}

}  // namespace celslm
