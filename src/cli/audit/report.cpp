#include "cli/audit/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/printable.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr std::size_t kShownBytes = 4096;  // of a request's target, of each header and of its body

struct Traffic {
  int connections = 0;
  int requests = 0;
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
};

std::map<std::string, Traffic> traffic_of(const std::vector<AuditedRun>& runs) {
  std::map<std::string, Traffic> out;
  const auto count = [&](const std::vector<SentRequest>& requests) {
    for (const SentRequest& request : requests) ++out[request.source].requests;
  };
  for (const AuditedRun& run : runs) {
    for (const Conversation& conversation : run.conversations) {
      Traffic& traffic = out[conversation.source];
      ++traffic.connections;
      traffic.sent += conversation.sent.size();
      traffic.received += conversation.received_bytes;
    }
    count(run.at_start);
    for (const AuditedQuestion& question : run.questions) count(question.sent);
  }
  return out;
}

json to_json(const SentRequest& request, TimePoint from) {
  json headers = json::array();
  for (const auto& [name, value] : request.headers)
    headers.push_back(printable(name, kShownBytes) + ": " + printable(value, kShownBytes));
  return {{"to", request.source},          {"at_ms", milliseconds(request.at - from)},
          {"method", request.method},      {"target", printable(request.target, kShownBytes)},
          {"headers", std::move(headers)}, {"body", printable(request.body, kShownBytes)},
          {"bytes", request.bytes}};
}

json to_json(const std::vector<SentRequest>& requests, TimePoint from) {
  json out = json::array();
  for (const SentRequest& request : requests) out.push_back(to_json(request, from));
  return out;
}

json to_json(const AuditedRun& run) {
  const TimePoint begin = run.at_start.empty() ? run.questions.front().asked : run.at_start.front().at;
  json questions = json::array();
  for (const AuditedQuestion& question : run.questions) {
    questions.push_back({{"about", question.about},
                         {"user_bytes", question.user_bytes},
                         {"status", question.status},
                         {"answer_ms", milliseconds(question.answered - question.asked)},
                         {"chosen", question.chosen},
                         {"sent", to_json(question.sent, question.asked)}});
  }
  json elsewhere = json::array();
  for (const Attempt& attempt : run.elsewhere)
    elsewhere.push_back({{"protocol", attempt.protocol}, {"address", attempt.address}, {"port", attempt.port}});
  return {{"script", run.script},
          {"at_start", to_json(run.at_start, begin)},
          {"questions", std::move(questions)},
          {"elsewhere", std::move(elsewhere)}};
}

json to_json(const AuditedPolicy& policy) {
  json findings = json::array();
  for (const Finding& finding : policy.findings) findings.push_back({{"kind", finding.kind}, {"text", finding.text}});
  json traffic = json::object();
  for (const auto& [source, t] : traffic_of(policy.runs))
    traffic[source] = {
        {"connections", t.connections}, {"requests", t.requests}, {"sent_bytes", t.sent}, {"received_bytes", t.received}};
  json runs = json::array();
  for (const AuditedRun& run : policy.runs) runs.push_back(to_json(run));
  return {{"policy", policy.policy},
          {"judged", policy.judged},
          {"findings", std::move(findings)},
          {"traffic", std::move(traffic)},
          {"runs", std::move(runs)}};
}

std::string to_text(const AuditedPolicy& policy) {
  std::string out = fmt::format("{}: {} edges were asked {} questions each\n", policy.policy, policy.runs.size(),
                                policy.runs.empty() ? 0 : policy.runs.front().questions.size());
  for (const auto& [source, t] : traffic_of(policy.runs))
    out += fmt::format("  to the {}: {} requests over {} connections, {} bytes sent, {} received\n", source, t.requests,
                       t.connections, t.sent, t.received);
  for (const Finding& finding : policy.findings) out += fmt::format("  {}: {}\n", finding.kind, finding.text);
  if (policy.judged && policy.findings.empty())
    out += "  what was sent does not depend on what users asked: no text, no hash of one, no other order, no other size\n";
  if (!policy.judged && policy.findings.empty()) out += "  nothing of the user's was sent\n";
  return out;
}

}  // namespace

bool AuditReport::leaks() const {
  return std::ranges::any_of(policies, [](const auto& policy) { return policy.judged && !policy.findings.empty(); });
}

json to_json(const AuditReport& report) {
  json list = json::array();
  for (const AuditedPolicy& policy : report.policies) list.push_back(to_json(policy));
  return {{"verdict", report.leaks() ? "leak" : "independent"},
          {"isolated", report.isolated},
          {"edge_flags", report.edge_flags},
          {"policies", std::move(list)}};
}

std::string to_text(const AuditReport& report) {
  std::string out;
  for (const AuditedPolicy& policy : report.policies) out += to_text(policy);
  out += report.isolated ? "the edges were in networks of their own: nothing can have been sent past the record\n"
                         : "the edges were NOT isolated: what they sent to anybody but cloud and neighbours was not seen\n";
  return out + (report.leaks() ? "LEAK\n" : "independent\n");
}

}  // namespace celslm
