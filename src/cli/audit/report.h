// What an audit found, as JSON and in words. docs/privacy.md documents the keys.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "cli/audit/judgement.h"

namespace celslm {

// The runs under one policy.
struct AuditedPolicy {
  std::string policy;
  bool judged = false;  // whether anything found breaks what the policy promises
  std::vector<AuditedRun> runs;
  std::vector<Finding> findings;
};

struct AuditReport {
  bool isolated = true;
  std::vector<std::string> edge_flags;
  std::vector<AuditedPolicy> policies;

  bool leaks() const;
};

nlohmann::json to_json(const AuditReport& report);
std::string to_text(const AuditReport& report);

}  // namespace celslm
