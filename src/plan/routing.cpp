#include "plan/routing.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace celslm {
namespace {

using Predictions = std::vector<std::optional<RoutePrediction>>;

double cost_or_never(const std::optional<RoutePrediction>& prediction) {
  return prediction ? prediction->cost_s : std::numeric_limits<double>::infinity();
}

// Places become free one after another, every `service_s / places` on average.
double wait_s(const RouteCandidate& candidate, double service_s) {
  const int places = std::max(candidate.places, 1);
  const int ahead = candidate.running + candidate.queued - places + 1;
  return std::max(ahead, 0) * service_s / places;
}

// Indices of the other nodes that may be asked at all.
std::vector<std::size_t> allowed(const RouteRequest& request, std::span<const RouteCandidate> candidates, RouteClass node) {
  std::vector<std::size_t> out;
  if (node == RouteClass::kLargeModel && request.policy < RequestPolicy::kCloud) return out;
  for (std::size_t i = 1; i < candidates.size(); ++i) {
    if (candidates[i].node == node && candidates[i].accepts) out.push_back(i);
  }
  return out;
}

void keep_near_best(std::vector<std::size_t>& pool, const Predictions& predictions, double near_best) {
  double best = std::numeric_limits<double>::infinity();
  for (const std::size_t i : pool) best = std::min(best, cost_or_never(predictions[i]));
  if (best == std::numeric_limits<double>::infinity()) return;  // nothing is known of any: chance decides
  std::erase_if(pool, [&](std::size_t i) { return cost_or_never(predictions[i]) > near_best * best; });
}

std::size_t better_of_two(const std::vector<std::size_t>& pool, const Predictions& predictions, const UniformDraw& draw) {
  const std::size_t first = draw(pool.size());
  if (pool.size() == 1) return pool[first];
  std::size_t second = draw(pool.size() - 1);
  if (second >= first) ++second;
  return cost_or_never(predictions[pool[second]]) < cost_or_never(predictions[pool[first]]) ? pool[second] : pool[first];
}

// A neighbour has the same model: rates that it has not measured yet are taken to be those of this edge, or an idle one that
// just started would never be asked.
RouteCandidate with_rates_of(const RouteCandidate& self, RouteCandidate candidate) {
  if (candidate.node != RouteClass::kNeighbour) return candidate;
  if (candidate.prefill_tokens_per_s <= 0) candidate.prefill_tokens_per_s = self.prefill_tokens_per_s;
  if (candidate.decode_tokens_per_s <= 0) candidate.decode_tokens_per_s = self.decode_tokens_per_s;
  return candidate;
}

std::optional<RouteReason> reason_to_stay(const RouteRequest& request) {
  if (request.was_forwarded) return RouteReason::kForwarded;
  if (request.policy == RequestPolicy::kEdgeOnly) return RouteReason::kPolicy;
  if (request.stays_here) return RouteReason::kPrivate;
  return std::nullopt;
}

}  // namespace

const char* to_string(RouteClass node) {
  switch (node) {
    case RouteClass::kSelf: return "self";
    case RouteClass::kNeighbour: return "neighbour";
    case RouteClass::kLargeModel: return "large";
  }
  return "?";
}

const char* to_string(RouteReason reason) {
  switch (reason) {
    case RouteReason::kPolicy: return "policy";
    case RouteReason::kForwarded: return "forwarded";
    case RouteReason::kPrivate: return "private";
    case RouteReason::kAlone: return "alone";
    case RouteReason::kGoodEnough: return "good enough";
    case RouteReason::kUnmeasured: return "unmeasured";
    case RouteReason::kFaster: return "faster";
    case RouteReason::kHoldsContext: return "holds context";
    case RouteReason::kOverloaded: return "overloaded";
  }
  return "?";
}

std::optional<RoutePrediction> predict(const RouteRequest& request, const RouteCandidate& candidate) {
  if (candidate.prefill_tokens_per_s <= 0 || candidate.decode_tokens_per_s <= 0) return std::nullopt;
  RoutePrediction out{.tpot_s = 1 / candidate.decode_tokens_per_s};
  const double prompt_s = request.prompt_tokens / candidate.prefill_tokens_per_s;
  const double computed_s = request.context_tokens / candidate.prefill_tokens_per_s;
  const double fetched_s = candidate.context_fetch_s > 0 ? std::min(candidate.context_fetch_s, computed_s) : computed_s;
  const double answer_s = std::max(request.answer_tokens - 1, 0) * out.tpot_s;
  const double load_s = candidate.holds_context ? 0 : fetched_s;
  out.ttft_s = candidate.round_trip_s + wait_s(candidate, prompt_s + answer_s) + load_s + prompt_s;
  out.total_s = out.ttft_s + answer_s;
  out.cost_s = out.total_s + load_s;
  return out;
}

RouteDecision choose_route(const RouteRequest& request, std::span<const RouteCandidate> candidates,
                           const RouteOptions& options, const UniformDraw& draw) {
  RouteDecision out;
  for (const RouteCandidate& candidate : candidates)
    out.predictions.push_back(predict(request, with_rates_of(candidates.front(), candidate)));
  if (const auto stays = reason_to_stay(request)) {
    out.reason = *stays;
    return out;
  }
  const RouteCandidate& self = candidates.front();
  const double here = cost_or_never(out.predictions.front());
  std::vector<std::size_t> pool = allowed(request, candidates, RouteClass::kNeighbour);
  if (pool.empty() && !self.accepts) pool = allowed(request, candidates, RouteClass::kLargeModel);
  out.reason = RouteReason::kAlone;
  if (pool.empty()) return out;
  if (self.accepts) {
    out.reason = out.predictions.front() ? RouteReason::kGoodEnough : RouteReason::kUnmeasured;
    if (!out.predictions.front()) return out;
    const double gain = std::max(options.margin * here, options.least_gain_s);
    std::erase_if(pool, [&](std::size_t i) { return cost_or_never(out.predictions[i]) > here - gain; });
    if (pool.empty()) return out;
  }
  keep_near_best(pool, out.predictions, options.near_best);
  out.chosen = better_of_two(pool, out.predictions, draw);
  const bool for_context = candidates[out.chosen].holds_context && !self.holds_context;
  out.reason = !self.accepts ? RouteReason::kOverloaded : for_context ? RouteReason::kHoldsContext : RouteReason::kFaster;
  return out;
}

}  // namespace celslm
