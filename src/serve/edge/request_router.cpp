#include "serve/edge/request_router.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/hash.h"
#include "core/printable.h"
#include "serve/edge/cascade_answer.h"
#include "serve/wire/errors.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr double kPatience = 10;  // times the prediction: an answer may be longer than expected, and others may come
constexpr std::chrono::milliseconds kLeastPatience{15'000};
constexpr std::chrono::milliseconds kMostPatience{600'000};

double round_ms(double s) {
  return std::round(s * 1e6) / 1e3;
}

json candidate_json(const RouteCandidate& candidate, const std::optional<RoutePrediction>& prediction) {
  json out = {{"node", candidate.id},         {"class", to_string(candidate.node)},
              {"accepts", candidate.accepts}, {"holds_context", candidate.holds_context},
              {"ttft_ms", nullptr},           {"tpot_ms", nullptr},
              {"total_ms", nullptr},          {"cost_ms", nullptr}};
  if (!prediction) return out;
  out["ttft_ms"] = round_ms(prediction->ttft_s);
  out["tpot_ms"] = round_ms(prediction->tpot_s);
  out["total_ms"] = round_ms(prediction->total_s);
  out["cost_ms"] = round_ms(prediction->cost_s);
  return out;
}

json notes_of(const RoutePlan& plan, const RouteDecision& decision, const std::vector<RouteCandidate>& candidates) {
  json list = json::array();
  for (std::size_t i = 0; i < candidates.size(); ++i) list.push_back(candidate_json(candidates[i], decision.predictions[i]));
  const RouteCandidate& chosen = candidates[decision.chosen];
  return {{"routing",
           {{"policy", to_string(plan.request.policy)},
            {"reason", to_string(decision.reason)},
            {"answered_by", to_string(chosen.node)},
            {"node", chosen.id},
            {"candidates", std::move(list)}}}};
}

// Why a request that was to be answered elsewhere was answered here after all.
json kept_here(json notes, const Error& why) {
  notes["routing"]["answered_by"] = to_string(RouteClass::kSelf);
  notes["routing"]["node"] = "self";
  notes["routing"]["forwarding_failed"] = without_paths(printable(why.message));
  return notes;
}

// What the answer needs to know of its request: all but the text.
HttpRequest without_body(const HttpRequest& http) {
  HttpRequest out;
  out.method = http.method;
  out.path = http.path;
  out.headers = http.headers;
  out.client = http.client;
  out.caller = http.caller;
  out.disconnected = http.disconnected;
  out.unreachable = http.unreachable;
  return out;
}

std::chrono::milliseconds patience_for(const std::optional<RoutePrediction>& prediction) {
  if (!prediction) return kMostPatience;
  const double ms = std::min(prediction->total_s * kPatience * 1e3, 1e9);
  return std::clamp(std::chrono::milliseconds(static_cast<std::int64_t>(ms)), kLeastPatience, kMostPatience);
}

std::string random_salt() {
  std::random_device chance;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", chance(), chance(), chance(), chance());
}

}  // namespace

RequestRouter::RequestRouter(RouterParts parts, const RoutingOptions& options, const BatchOptions& batch)
    : parts_(std::move(parts)),
      options_(options),
      salt_(random_salt()),
      places_(batch.max_running),
      most_requests_(batch.max_running + batch.max_queued) {}

// Stands for a client among those of this edge, and tells a node nothing else of it.
std::string RequestRouter::name_of(const std::string& client) const {
  return hash_of(salt_ + client).hex().substr(0, 32);
}

RequestPolicy RequestRouter::policy_of(const CompletionRequest& request, const HttpRequest& http) const {
  const std::string& of_key = http.caller.widest_policy;
  const RequestPolicy allowed =
      of_key.empty() ? RequestPolicy::kCloud : policy_from(of_key).value_or(RequestPolicy::kEdgeOnly);
  return effective_policy(request.policy, options_.policy, std::min(options_.widest, allowed));
}

RouteCandidate RequestRouter::self() const {
  const BatchStats stats = parts_.completions.parts().loop.stats();
  const MeasuredSpeed& speed = parts_.completions.parts().metrics.speed();
  return {.id = "self",
          .node = RouteClass::kSelf,
          .accepts = stats.running + stats.queued < most_requests_,
          .context_fetch_s = speed.context_load_s(),
          .running = stats.running,
          .queued = stats.queued,
          .places = places_,
          .prefill_tokens_per_s = speed.prefill(),
          .decode_tokens_per_s = speed.decode()};
}

RequestRouter::Known RequestRouter::known(const RoutePlan& plan) const {
  Known out;
  out.candidates.push_back(self());
  out.candidates.front().holds_context = !plan.context || plan.is_resident;
  if (plan.request.policy == RequestPolicy::kEdgeOnly || plan.request.was_forwarded) return out;
  for (const auto& source : parts_.nodes) {
    for (RouteNode& node : source->nodes(plan.context)) {
      out.candidates.push_back(node.candidate);
      out.others.emplace_back(source, std::move(node));
    }
  }
  return out;
}

RouteDecision RequestRouter::choose(const RoutePlan& plan, const Known& known) {
  const MutexLock lock(mutex_);
  return choose_route(plan.request, known.candidates, options_.choice, [&](std::size_t n) CELSLM_REQUIRES(mutex_) {
    return std::uniform_int_distribution<std::size_t>(0, n - 1)(chance_);
  });
}

std::size_t RequestRouter::large_model(const Known& known) {
  std::vector<std::size_t> all;
  for (std::size_t i = 1; i < known.candidates.size(); ++i) {
    if (known.candidates[i].node == RouteClass::kLargeModel && known.candidates[i].accepts) all.push_back(i);
  }
  if (all.empty()) return 0;
  const MutexLock lock(mutex_);
  return all[std::uniform_int_distribution<std::size_t>(0, all.size() - 1)(chance_)];
}

HttpResponse RequestRouter::answer(const std::shared_ptr<const CompletionRequest>& request, const HttpRequest& http,
                                   Here here, bool judged) {
  const RequestPolicy policy = policy_of(*request, http);
  const CompletionParts& edge = parts_.completions.parts();
  const RoutePlan plan = route_plan(*request, policy, http, edge.directory, parts_.contexts);
  Known nodes = known(plan);
  const RouteDecision decision = choose(plan, nodes);
  const auto routed = std::make_shared<Routed>(Routed{.request = request,
                                                      .http = without_body(http),
                                                      .plan = plan,
                                                      .here = std::move(here),
                                                      .notes = notes_of(plan, decision, nodes.candidates)});
  if (!nodes.others.empty() && !plan.request.stays_here) routed->http.body = http.body;
  if (decision.chosen == 0) return answer_here(routed, nodes, judged);
  return forward(routed, nodes, decision.chosen,
                 [routed](const Error& why) { return routed->here(routed->http, kept_here(routed->notes, why)); });
}

// Refused for lack of places or memory, it is offered to others.
HttpResponse RequestRouter::answer_here(const std::shared_ptr<Routed>& routed, const Known& nodes, bool judged) {
  auto answer = judged ? judge(routed, nodes) : std::nullopt;
  if (!answer) answer = routed->here(routed->http, routed->notes);
  if (answer->status != 429 || routed->http.body.empty()) return *std::move(answer);
  Known full = nodes;
  full.candidates.front().accepts = false;
  const RouteDecision decision = choose(routed->plan, full);
  if (decision.chosen == 0) return *std::move(answer);
  routed->notes = notes_of(routed->plan, decision, full.candidates);
  const auto refusal = std::make_shared<HttpResponse>(*std::move(answer));
  return forward(routed, full, decision.chosen, [refusal](const Error&) { return *refusal; });
}

HttpResponse RequestRouter::forward(const std::shared_ptr<Routed>& routed, const Known& nodes, std::size_t to,
                                    const std::function<HttpResponse(const Error&)>& otherwise) {
  auto body = forwarded_body(routed->http, routed->plan);
  if (!body) return otherwise(body.error());
  const auto& [source, node] = nodes.others[to - 1];
  const std::string& id = node.candidate.id;
  const char* const kind = to_string(node.candidate.node);
  const std::stop_source lost;
  return parts_.forwarder.forward(
      {.client = node.client,
       .node = id,
       .path = routed->http.path,
       .body = *std::move(body),
       .from = name_of(routed->http.client),
       .tenant = routed->http.caller.tenant,
       .streamed = routed->request->stream,
       .timeout = patience_for(predict(routed->plan.request, nodes.candidates[to])),
       .lost = lost.get_token(),
       .notes = routed->notes,
       .otherwise = otherwise,
       .began = [source, id, lost] { source->began(id, lost); },
       .ended =
           [source, id, lost, kind, pay = payment(routed->http.caller.use.get()),
            prompt = routed->plan.request.prompt_tokens,
            &metrics = parts_.completions.parts().metrics](ForwardEnd end, const HttpTraffic& moved, std::int64_t tokens) {
             source->ended(id, lost, end == ForwardEnd::kFailed);
             metrics.forwarded(kind, to_string(end), moved.total());
             const bool was_work = end == ForwardEnd::kAnswered || end == ForwardEnd::kCancelled || tokens > 0;
             if (pay && was_work) pay({.prompt_tokens = prompt, .completion_tokens = static_cast<int>(tokens)});
           }});
}

// Nothing where the request is not the cascade's business.
std::optional<HttpResponse> RequestRouter::judge(const std::shared_ptr<Routed>& routed, const Known& nodes) {
  if (!options_.cascade || routed->plan.request.policy != RequestPolicy::kCloud || routed->http.body.empty())
    return std::nullopt;
  const std::size_t large = large_model(nodes);
  if (large == 0 || !can_be_judged(*routed->request)) return std::nullopt;
  auto begun = begin_judged(parts_.completions, *routed->request, routed->http, *options_.cascade);
  if (auto* refused = std::get_if<HttpResponse>(&begun)) return std::move(*refused);
  auto& completion = std::get<BegunCompletion>(begun);
  completion.notes = routed->notes;
  const auto hand_over = [this, routed, nodes, large](json cascade, const std::function<HttpResponse(json)>& keep) {
    routed->notes["routing"]["answered_by"] = to_string(RouteClass::kLargeModel);
    routed->notes["routing"]["node"] = nodes.candidates[large].id;
    routed->notes["cascade"] = std::move(cascade);
    return forward(routed, nodes, large, [keep](const Error& why) {
      return keep({{"forwarding_failed", without_paths(printable(why.message))}});
    });
  };
  const auto answer =
      std::make_shared<CascadeAnswer>(parts_.completions, std::move(completion), *options_.cascade, hand_over);
  return HttpResponse{.deferred = [answer](std::shared_ptr<HttpReply> reply) { answer->begin(std::move(reply)); }};
}

}  // namespace celslm
