#include "plan/source_state.h"

#include <algorithm>
#include <limits>

namespace celslm {
namespace {

using namespace std::chrono_literals;

constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr int kMaxFailures = 2;
// What a request asks for where nothing is known: two f16 blocks of the 0.5B models.
constexpr std::uint64_t kFirstRequestBytes = 128U << 10;
constexpr std::uint64_t kMinRequestBytes = 64U << 10;
constexpr std::uint64_t kMaxRequestBytes = 4U << 20;
constexpr double kMinRequestSeconds = 0.05;
constexpr std::uint64_t kBytesPerFlight = 256U << 10;
// Before a block counts as late: so many times what it should take, and never less than a scheduler's hiccup.
constexpr double kLateFactor = 3.0;
constexpr double kLateFloor = 0.1;
constexpr double kLateUnknown = 1.0;
constexpr double kOpenFloor = 0.03;

}  // namespace

SourceState::SourceState(const SourceTraits& given, int n_blocks, TimePoint now)
    : traits(given), offered_(static_cast<std::size_t>(n_blocks)), added_(now), estimate_(given.estimate) {}

void SourceState::offer(int first, int count) {
  for (int block = first; block < first + count; ++block) {
    const auto i = static_cast<std::size_t>(block);
    n_offered_ += offered_[i] ? 0 : 1;
    offered_[i] = true;
  }
}

bool SourceState::seems_to_have_all(TimePoint now) const {
  if (n_offered_ > 0 || !estimate_.rate_bytes_per_s.known()) return has_all();
  return seconds(now - added_) < kOpenFloor + kLateFactor * estimate_.latency_s.mean();
}

double SourceState::grows_for_s(TimePoint now) const {
  if (has_all()) return 0;
  if (n_offered_ == 0) return kNever;
  return seconds(now - added_) / static_cast<double>(n_offered_) * static_cast<double>(offered_.size() - n_offered_);
}

bool SourceState::wants_flight() const {
  if (!alive_ || asked_bytes_ >= traits.max_bytes) return false;
  const std::uint64_t useful = 2 + bytes_per_wait() / kBytesPerFlight;
  return active_ < static_cast<int>(std::min<std::uint64_t>(useful, static_cast<std::uint64_t>(traits.max_flights)));
}

std::uint64_t SourceState::bytes_per_wait() const {
  return static_cast<std::uint64_t>(std::min(estimate_.rate_bytes_per_s.mean() * estimate_.latency_s.mean(), 1e12));
}

std::uint64_t SourceState::request_bytes() const {
  if (!estimate_.rate_bytes_per_s.known()) return kFirstRequestBytes;
  const double time = std::max(kMinRequestSeconds, 2 * estimate_.latency_s.mean());
  const double bytes = estimate_.rate_bytes_per_s.mean() * time;
  return std::clamp(static_cast<std::uint64_t>(std::min(bytes, 1e12)), kMinRequestBytes, kMaxRequestBytes);
}

double SourceState::transfer_s(std::uint64_t bytes) const {
  const double rate = estimate_.rate_bytes_per_s.mean();
  return rate > 0 ? static_cast<double>(bytes) * std::max(1, active_) / rate : kNever;
}

bool SourceState::is_late(const Flight& flight, std::uint64_t bytes, TimePoint now) const {
  const double waited = seconds(now - flight.moved);
  const Ewma& latency = estimate_.latency_s;
  if (!estimate_.rate_bytes_per_s.known()) return waited > kLateUnknown;
  const double wait = flight.answered ? 0 : latency.mean() + 4 * latency.spread();
  return waited > kLateFloor + kLateFactor * (wait + transfer_s(bytes));
}

void SourceState::flight_began(std::uint64_t bytes) {
  ++active_;
  asked_bytes_ += bytes;
}

void SourceState::arrived(Flight& flight, std::uint64_t bytes, TimePoint now) {
  flight.part += bytes;
  if (flight.answered) {
    meter_.add(bytes, now);
  } else {
    flight.answered = true;
    flight.moved = now;
    if (!flight.opening) estimate_.latency_s.add(seconds(now - flight.began));
    meter_.begin(bytes, now);
  }
  take_sample();
}

void SourceState::take_sample() {
  Ewma& rate = estimate_.rate_bytes_per_s;
  if (const auto sample = meter_.sample(!rate.known())) rate.add(*sample);  // a rough idea early, a good one later
}

void SourceState::block_came(Flight& flight, std::uint64_t bytes, TimePoint now) {
  flight.moved = now;
  flight.part -= std::min(flight.part, bytes);
  ++flight.next;
  failures_ = 0;
}

void SourceState::flight_ended(const Flight& flight, bool failed, bool fatal, TimePoint now) {
  --active_;
  if (flight.answered) {
    meter_.end(now);
    take_sample();
  }
  if (failed && (failures_ == 0 || flight.began >= failed_at_)) {
    ++failures_;
    failed_at_ = now;
  }
  if (fatal || failures_ >= kMaxFailures) alive_ = false;
}

}  // namespace celslm
