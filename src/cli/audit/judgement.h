// Whether what edges sent depends on what they were asked.
//
// Edges that were started alike and asked the same kinds of questions must have sent the same, whatever the questions said.
// What an edge sends has three parts. Loads of contexts: how a pack is divided into requests depends on the time that
// answers take, so the forms of the requests (path, headers and their values, body) are compared as sets, and the numbers
// and sizes by a test for a dependence on the length of the prompts. Watching the cloud's list: at any time, but only in
// forms that are known from before the first question. Everything else: request by request.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "cli/audit/packet_watch.h"
#include "cli/audit/secrets.h"
#include "cli/audit/sent_request.h"

namespace celslm {

// What was sent from one question to the next.
struct AuditedQuestion {
  std::string about;
  std::size_t user_bytes = 0;
  TimePoint asked;
  TimePoint answered;
  int status = 0;
  std::string chosen;  // what the answer reports of policy and routing; empty: nothing
  std::vector<SentRequest> sent;
};

// One edge, from its start to its end.
struct AuditedRun {
  std::string script;
  std::map<std::string, std::string> authorities;  // of the proxies, with the source's name
  std::vector<SentRequest> at_start;               // before the first marked question
  std::vector<AuditedQuestion> questions;
  std::vector<Attempt> elsewhere;  // towards neither proxy nor the edge itself
  std::vector<Conversation> conversations;
  Secrets secrets;
};

struct Finding {
  std::string kind;  // "secret", "difference", "elsewhere", "length"
  std::string text;  // what, where, with what it was compared
  bool operator==(const Finding&) const = default;
};

// The secrets of each run that were sent, to whom and where in which request.
std::vector<Finding> secrets_sent(std::span<const AuditedRun> runs);
// Attempts to reach anybody but the cloud and the neighbours.
std::vector<Finding> sent_elsewhere(std::span<const AuditedRun> runs);
// What differs between runs whose questions differ. Runs of one policy.
std::vector<Finding> differences(std::span<const AuditedRun> runs);

// How likely values in this order of the prompts' lengths are, or ones that follow the lengths more closely, if they do not
// depend on them: the share of permutations with at least this rank correlation. 1 for fewer than three values.
double chance_of_dependence(const std::vector<double>& lengths, const std::vector<double>& values);

}  // namespace celslm
