#include "plan/simulation/fleet_requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/json.h"
#include "plan/simulation/chance.h"
#include "plan/simulation/json_lines.h"

namespace celslm {
namespace {

constexpr int kMostTokens = 1 << 20;
constexpr double kMostSeconds = 1e9;

int at_least_one(double tokens) {
  return std::clamp(static_cast<int>(std::lround(tokens)), 1, kMostTokens);
}

// The sums of n^-zipf up to each n.
std::vector<double> popularity(int n_contexts, double zipf) {
  std::vector<double> out;
  double sum = 0;
  for (int n = 1; n <= n_contexts; ++n) out.push_back(sum += std::pow(n, -zipf));
  return out;
}

Result<FleetRequest> parse_request(std::string_view line, int n_edges, int n_contexts) {
  CELSLM_TRY(const nlohmann::json object, parse_object(line));
  const JsonFields fields(object);
  CELSLM_TRY(const auto at, fields.number("at_s", 0, kMostSeconds));
  if (!at) return fields.expected("at_s", "a number of seconds");
  CELSLM_TRY(const auto edge, fields.required_integer("edge", 0, n_edges - 1));
  CELSLM_TRY(const auto context, fields.required_integer("context", -1, n_contexts - 1));
  CELSLM_TRY(const auto prompt, fields.required_integer("prompt_tokens", 1, kMostTokens));
  CELSLM_TRY(const auto answer, fields.required_integer("answer_tokens", 1, kMostTokens));
  return FleetRequest{.at_s = *at,
                      .edge = static_cast<int>(edge),
                      .context = static_cast<int>(context),
                      .prompt_tokens = static_cast<int>(prompt),
                      .answer_tokens = static_cast<int>(answer)};
}

}  // namespace

std::string write_requests(const std::vector<FleetRequest>& requests) {
  std::string out;
  for (const FleetRequest& request : requests)
    out += dump_json({{"at_s", request.at_s},
                      {"edge", request.edge},
                      {"context", request.context},
                      {"prompt_tokens", request.prompt_tokens},
                      {"answer_tokens", request.answer_tokens}}) +
           '\n';
  return out;
}

Result<std::vector<FleetRequest>> read_requests(std::string_view text, int n_edges, int n_contexts) {
  std::vector<FleetRequest> out;
  CELSLM_CHECK_OK(for_each_line(text, [&](std::string_view line) -> Status {
    CELSLM_TRY(const FleetRequest request, parse_request(line, n_edges, n_contexts));
    out.push_back(request);
    return {};
  }));
  std::ranges::stable_sort(out, {}, &FleetRequest::at_s);
  return out;
}

std::vector<FleetRequest> synthetic_requests(const SyntheticLoad& load, int n_edges, int n_contexts, std::uint64_t seed) {
  Chance chance(seed);
  const std::vector<double> sums = popularity(n_contexts, load.zipf);
  std::vector<FleetRequest> out;
  for (double at = chance.exponential(1 / load.requests_per_s); at < load.duration_s;
       at += chance.exponential(1 / load.requests_per_s)) {
    FleetRequest request{.at_s = at, .edge = chance.below(n_edges)};
    if (!sums.empty()) {
      const auto it = std::ranges::lower_bound(sums, chance.uniform() * sums.back());
      request.context = std::min(static_cast<int>(it - sums.begin()), n_contexts - 1);
    }
    request.prompt_tokens = at_least_one(chance.exponential(load.prompt_tokens));
    request.answer_tokens = at_least_one(chance.exponential(load.answer_tokens));
    out.push_back(request);
  }
  return out;
}

}  // namespace celslm
