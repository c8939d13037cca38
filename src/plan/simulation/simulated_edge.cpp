#include "plan/simulation/simulated_edge.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace celslm {
namespace {

constexpr double kDone = 1e-6;       // of a token, or a millionth of a context: what rounding leaves
constexpr double kLeastStep = 1e-9;  // seconds, so that time moves whatever rounding leaves

}  // namespace

// BatchRunner takes stall_s / row_s tokens, and measures row_s in steps of that size: share = stall_s (share + users) /
// (share / prefill + step_s(users)), solved for the share.
double EngineModel::prompt_share(int users) const {
  constexpr double kLeast = 16;
  constexpr double kMost = 512;
  const double room_s = stall_s - step_s(users);
  const double root = std::sqrt(room_s * room_s + 4 * stall_s * users / prefill_tokens_per_s);
  return std::clamp(prefill_tokens_per_s / 2 * (room_s + root), kLeast, kMost);
}

double EngineModel::row_s(int users) const {
  const double share = prompt_share(users);
  return (share / prefill_tokens_per_s + step_s(users)) / (share + users);
}

void SimulatedEdge::add(int request, int context, double prompt_tokens, double answer_tokens) {
  queue_.push_back({.request = request,
                    .context = context,
                    .phase = context < 0 ? Phase::kPrefill : Phase::kWaiting,
                    .prompt_left = prompt_tokens,
                    .answer_left = answer_tokens});
  fill_places();
}

void SimulatedEdge::fill_places() {
  while (has_place() && !queue_.empty()) {
    batch_.push_back(queue_.front());
    queue_.pop_front();
  }
}

std::vector<int> SimulatedEdge::contexts_wanted() const {
  std::vector<int> out;
  for (const Place& place : batch_) {
    if (place.phase == Phase::kWaiting && std::ranges::find(out, place.context) == out.end()) out.push_back(place.context);
  }
  return out;
}

void SimulatedEdge::context_ready(int context) {
  const auto start = [&](Place& place) {
    if (place.phase == Phase::kWaiting && place.context == context) place.phase = Phase::kPrefill;
  };
  std::ranges::for_each(batch_, start);
  std::ranges::for_each(queue_, start);
}

int SimulatedEdge::count(Phase phase) const {
  return static_cast<int>(std::ranges::count(batch_, phase, &Place::phase));
}

// A step is a unit of the context, tokens of prompts, and a token of each answer: what takes which share of a step has that
// share of the engine.
SimulatedEdge::Rates SimulatedEdge::rates(int decoding, int prompts) const {
  constexpr double kUnitTokens = 512;
  const bool computes = is_loading() && load_.computes;
  const double unit_tokens = std::min<double>(kUnitTokens, load_.shape.tokens) / engine_.n_layers;
  const double unit_s = computes ? unit_tokens / engine_.prefill_tokens_per_s : 0;
  const double prompt_s = prompts > 0 ? engine_.prompt_share(decoding) / engine_.prefill_tokens_per_s : 0;
  const double decode_s = engine_.step_s(decoding);
  const double step_s = unit_s + prompt_s + decode_s;
  if (step_s == 0) return {};
  return {.prefill = prompts > 0 ? engine_.prefill_tokens_per_s * prompt_s / step_s / prompts : 0,
          .compute = unit_s > 0 ? unit_tokens / step_s : 0,
          .decode = decoding > 0 ? 1 / step_s : 0};
}

double SimulatedEdge::prefill_tokens_per_s() const {
  return rates(count(Phase::kDecode), count(Phase::kPrefill) + 1).prefill;
}

double SimulatedEdge::load_left_s(const Rates& rates) const {
  const double compute = rates.compute / load_.shape.tokens;
  const double fetch = std::accumulate(load_.rates.begin(), load_.rates.end(), 0.0) / load_.shape.pack_bytes;
  const double left = std::max(0.0, 1 - load_.computed - load_.fetched);
  const double quiet = std::max(0.0, load_.fetch_from_s - now_);
  if (quiet == 0) return compute + fetch > 0 ? left / (compute + fetch) : kNever;
  if (compute > 0 && left / compute <= quiet) return left / compute;
  return quiet;  // the rates change then
}

double SimulatedEdge::next_event_s() const {
  const Rates now = rates();
  double next = kNever;
  for (const Place& place : batch_) {
    if (place.phase == Phase::kPrefill) next = std::min(next, place.prompt_left / now.prefill);
    if (place.phase == Phase::kDecode) next = std::min(next, place.answer_left / now.decode);
  }
  if (is_loading()) next = std::min(next, load_left_s(now));
  // Far from the beginning a step is less than what a double tells apart.
  return next == kNever ? kNever : std::max(now_ + std::max(next, kLeastStep), std::nextafter(now_, kNever));
}

void SimulatedEdge::advance(double now) {
  while (now_ < now) {
    const double next = std::min(next_event_s(), now);
    step(next);
    finish();
    if (next >= now) break;
  }
  now_ = std::max(now_, now);
  finish();
}

void SimulatedEdge::step(double until) {
  const double passed = until - now_;
  const Rates now = rates();
  if (now.prefill + now.decode + now.compute > 0) busy_s_ += passed;
  computed_tokens_ += (now.prefill * count(Phase::kPrefill) + now.compute) * passed;
  for (Place& place : batch_) {
    if (place.phase == Phase::kPrefill) place.prompt_left -= now.prefill * passed;
    if (place.phase == Phase::kDecode) place.answer_left -= now.decode * passed;
  }
  if (is_loading()) {
    load_.computed += now.compute / load_.shape.tokens * passed;
    const double fetching = std::max(0.0, until - std::max(now_, load_.fetch_from_s));
    for (std::size_t i = 0; i < kOrigins; ++i) {
      load_.received[i] += load_.rates[i] * fetching;
      load_.fetched += load_.rates[i] * fetching / load_.shape.pack_bytes;
    }
  }
  now_ = until;
}

void SimulatedEdge::finish() {
  if (is_loading() && load_.computed + load_.fetched >= 1 - kDone) {
    events_.push_back({EdgeEvent::Kind::kLoaded, load_.context});
    context_ready(load_.context);
    load_.computes = false;  // it stays until it is taken, and does nothing
    load_.rates = {};
    load_.computed = 0;
    load_.fetched = 0;
  }
  for (Place& place : batch_) {
    if (place.phase != Phase::kPrefill || place.prompt_left > kDone) continue;
    place.phase = Phase::kDecode;  // the prompt's last token gives the answer's first
    place.answer_left -= 1;
    events_.push_back({EdgeEvent::Kind::kFirstToken, place.request});
  }
  for (const Place& place : batch_) {
    if (place.phase == Phase::kDecode && place.answer_left <= kDone)
      events_.push_back({EdgeEvent::Kind::kAnswered, place.request});
  }
  std::erase_if(batch_, [](const Place& p) { return p.phase == Phase::kDecode && p.answer_left <= kDone; });
  fill_places();
}

std::vector<int> SimulatedEdge::fail(double now) {
  now_ = std::max(now_, now);
  std::vector<int> out;
  out.reserve(batch_.size() + queue_.size());
  for (const Place& place : batch_) out.push_back(place.request);
  for (const Place& place : queue_) out.push_back(place.request);
  batch_.clear();
  queue_.clear();
  load_ = {};
  return out;
}

}  // namespace celslm
