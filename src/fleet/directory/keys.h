// The names of a fleet's keys in the store. docs/fleet.md lists them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace celslm {

// The number changes when nodes of before it would misread what is written; until then fields are only added. A node of a
// new number that shares a fleet with old ones writes and reads both.
inline constexpr std::string_view kKeyPrefix = "celslm:1:";

class FleetKeys {
 public:
  // fleet: the beginning of the public key that signs the fleet's packs.
  explicit FleetKeys(std::string_view fleet) : prefix_(std::string(kKeyPrefix) + std::string(fleet) + ":") {}

  std::string nodes() const { return prefix_ + "nodes"; }  // set of ids
  std::string lease(std::string_view id) const { return name("lease", id); }
  std::string node(std::string_view id) const { return name("node", id); }
  std::string held(std::string_view id) const { return name("held", id); }

  std::string contexts() const { return prefix_ + "contexts"; }                    // set of handles
  std::string removed_contexts() const { return prefix_ + "contexts-removed"; }    // set of signed removals
  std::string contexts_revision() const { return prefix_ + "contexts-revision"; }  // another after each change of the two
  std::string work() const { return prefix_ + "work"; }                            // stream of packs to compute
  std::string packs() const { return prefix_ + "packs"; }                   // set: "<pack id> <bytes>" of the shared tier
  std::string pack(std::string_view id) const { return name("pack", id); }  // its header
  std::string block(std::string_view id, int n) const { return name("block", id) + ":" + std::to_string(n); }
  std::string context(std::string_view handle) const { return name("context", handle); }

  std::vector<std::string> node_keys(const std::vector<std::string>& ids) const {
    std::vector<std::string> out;
    out.reserve(ids.size());
    for (const std::string& id : ids) out.push_back(node(id));
    return out;
  }

 private:
  std::string name(std::string_view kind, std::string_view id) const {
    return prefix_ + std::string(kind) + ":" + std::string(id);
  }
  const std::string prefix_;
};

}  // namespace celslm
