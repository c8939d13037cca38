#include "plan/source_state.h"

#include <algorithm>
#include <limits>

namespace celslm {
namespace {

using namespace std::chrono_literals;

constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr int kMaxFailures = 2;
// What a transfer asks for where nothing is known: two f16 blocks of the 0.5B models.
constexpr std::uint64_t kFirstRequestBytes = 128U << 10;
constexpr std::uint64_t kMinRequestBytes = 64U << 10;
constexpr std::uint64_t kMaxRequestBytes = 4U << 20;
constexpr double kMinRequestSeconds = 0.05;
constexpr std::uint64_t kBytesPerTransfer = 256U << 10;
// Before a block counts as late: so many times what it should take, and never less than a scheduler's hiccup.
constexpr double kLateFactor = 3.0;
constexpr double kLateFloor = 0.1;
constexpr double kLateUnknown = 1.0;
constexpr double kOpenFloor = 0.03;

}  // namespace

SourceState::SourceState(const SourceTraits& given, int n_blocks, TimePoint now)
    : traits(given), offered_(static_cast<std::size_t>(n_blocks)), added_(now), estimate_(given.estimate) {}

void SourceState::offer(BlockRange blocks) {
  for (int block = blocks.first; block < blocks.end(); ++block) {
    const auto i = static_cast<std::size_t>(block);
    n_offered_ += offered_[i] ? 0 : 1;
    offered_[i] = true;
  }
}

bool SourceState::seems_to_have_all(TimePoint now) const {
  if (n_offered_ > 0 || !estimate_.rate_bytes_per_s.known()) return has_all();
  return seconds(now - added_) < kOpenFloor + kLateFactor * estimate_.latency_s.mean();
}

double SourceState::complete_in_s(TimePoint now) const {
  if (has_all()) return 0;
  if (n_offered_ == 0) return kNever;
  return seconds(now - added_) / static_cast<double>(n_offered_) * static_cast<double>(offered_.size() - n_offered_);
}

bool SourceState::wants_transfer() const {
  if (!alive_ || spent()) return false;
  const std::uint64_t useful = 2 + bytes_per_wait() / kBytesPerTransfer;
  return active_ < static_cast<int>(std::min<std::uint64_t>(useful, static_cast<std::uint64_t>(traits.max_transfers)));
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

bool SourceState::is_late(const Transfer& transfer, std::uint64_t bytes, TimePoint now) const {
  const double waited = seconds(now - transfer.progressed);
  const Ewma& latency = estimate_.latency_s;
  if (!estimate_.rate_bytes_per_s.known()) return waited > kLateUnknown;
  const double wait = transfer.answered ? 0 : latency.mean() + 4 * latency.spread();
  return waited > kLateFloor + kLateFactor * (wait + transfer_s(bytes));
}

void SourceState::transfer_began(std::uint64_t bytes) {
  ++active_;
  asked_bytes_ += bytes;
}

void SourceState::bytes_arrived(Transfer& transfer, std::uint64_t bytes, TimePoint now) {
  transfer.partial_bytes += bytes;
  if (transfer.answered) {
    meter_.add(bytes, now);
  } else {
    transfer.answered = true;
    transfer.progressed = now;
    if (!transfer.with_header) estimate_.latency_s.add(seconds(now - transfer.began));
    meter_.begin(bytes, now);
  }
  take_sample();
}

void SourceState::take_sample() {
  Ewma& rate = estimate_.rate_bytes_per_s;
  if (const auto sample = meter_.sample(!rate.known())) rate.add(*sample);  // a rough value early, a good one later
}

void SourceState::block_arrived(Transfer& transfer, std::uint64_t bytes, TimePoint now) {
  transfer.progressed = now;
  transfer.partial_bytes -= std::min(transfer.partial_bytes, bytes);
  ++transfer.next;
  failures_ = 0;
}

void SourceState::transfer_ended(const Transfer& transfer, TransferEnd how, TimePoint now) {
  --active_;
  if (transfer.answered) {
    meter_.end(now);
    take_sample();
  }
  if (how == TransferEnd::kFailed && (failures_ == 0 || transfer.began >= failed_at_)) {
    ++failures_;
    failed_at_ = now;
  }
  if (how == TransferEnd::kRefused || failures_ >= kMaxFailures) alive_ = false;
}

}  // namespace celslm
