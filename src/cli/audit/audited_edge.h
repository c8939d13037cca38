// One edge under audit: started afresh, asked a script, ended; with everything that it sent meanwhile.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "cli/audit/judgement.h"
#include "cli/audit/questions.h"
#include "core/clock.h"
#include "core/result.h"

namespace celslm {

// A server that the edge may reach, as the audit reaches it.
struct AuditedServer {
  std::string name;  // "cloud", "peer 1"
  std::string host;
  int port = 0;
};
// kInvalid for anything but http://HOST:PORT: the audit reads what is sent, so that nothing may be encrypted.
Result<AuditedServer> audited_server(const std::string& name, const std::string& url);

struct EdgeAudit {
  std::string program;                  // path of celslm
  std::vector<std::string> edge_flags;  // without --cloud, --peer, --host, --port, --data
  std::vector<AuditedServer> servers;   // the cloud first, then neighbours
  std::vector<std::string> contexts;    // handles that the edge must know before it is asked
  bool isolated = true;
  const Clock* clock = nullptr;
};

// Runs the edge with its data and log in `folder`, which it makes. kUnavailable, with the log's name, if the edge does not
// start or refuses a question; errors of start_program() and read_attempts().
Result<AuditedRun> audit_edge(const EdgeAudit& audit, AuditScript script, const std::filesystem::path& folder);

}  // namespace celslm
