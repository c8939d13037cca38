// What an audited edge is asked.
#pragma once

#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "cli/audit/secrets.h"

namespace celslm {

struct AuditQuestion {
  std::string about;            // the case: "a context that is not loaded yet"
  std::string path;             // at the edge
  std::string body;             // JSON
  std::size_t user_bytes = 0;   // that the user wrote in it
  bool may_be_refused = false;  // some models cannot
};

// One edge's questions, from its start on. Scripts with the same contexts and policy ask the same kinds of questions in the
// same order, whatever they say.
struct AuditScript {
  std::string name;       // what the user's texts are like: "short"
  AuditQuestion warm_up;  // about the first context, in every script the same
  std::vector<AuditQuestion> questions;
  Secrets secrets;  // of all of them
};

struct AuditContexts {
  std::string warm_up;
  std::string shared;  // that the marked questions are about
};
// Made up; `salt` makes them new to a cloud.
AuditContexts made_up_contexts(const std::string& salt);

// A script of each kind there is: short and long texts, code, other scripts; with marks that occur nowhere else.
std::vector<AuditScript> audit_scripts(const AuditContexts& contexts, const std::string& policy, std::mt19937_64& random);

}  // namespace celslm
