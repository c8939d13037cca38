// One source of blocks as the plan knows it: what it has, how fast it has been, what it is asked for now.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/clock.h"
#include "plan/estimate.h"
#include "plan/transfer.h"

namespace celslm {

struct SourceTraits {
  int max_transfers = 1;                 // under way at once
  bool is_neighbour = false;             // takes the shallow end where it is about as fast as the others
  bool is_metered = true;                // its bytes cross a network
  std::uint64_t max_bytes = UINT64_MAX;  // it may be asked for, at most
  LinkEstimate estimate;                 // from earlier, if any
};

// Not thread-safe, like the plan that owns it.
class SourceState {
 public:
  SourceState(const SourceTraits& traits, int n_blocks, TimePoint now);

  const SourceTraits traits;

  bool alive() const { return alive_ && (active_ > 0 || !spent()); }
  bool spent() const { return bytes_left() == 0; }  // it may not be asked for more
  std::uint64_t bytes_left() const { return traits.max_bytes - std::min(traits.max_bytes, asked_bytes_); }
  void drop() { alive_ = false; }

  void offer(BlockRange blocks);
  bool has(int block) const { return presumed_ || offered_[static_cast<std::size_t>(block)]; }
  // While it is `presumed`, it counts as having every block, offered or not.
  void presume(bool presumed) { presumed_ = presumed; }
  bool is_presumed() const { return presumed_; }
  bool has_all() const { return n_offered_ == offered_.size(); }
  // Or could not offer anything yet: a source that was measured before is trusted to have all for a moment.
  bool seems_to_have_all(TimePoint now) const;
  // Seconds until the rest is offered, at the pace so far; infinite before the first offer.
  double complete_in_s(TimePoint now) const;

  const LinkEstimate& estimate() const { return estimate_; }
  int active() const { return active_; }  // transfers under way
  // More transfers at once help only while answers are shorter than the wait for them.
  bool wants_transfer() const;
  // How much one transfer should ask for, so that the wait for it is small beside it and the plan can soon change.
  std::uint64_t request_bytes() const;
  std::uint64_t bytes_per_wait() const;  // what it sends in the time that a request waits for its first byte
  // Seconds for `bytes` more on one of its transfers, the wait for the first excluded. Infinite if the rate is unknown.
  double transfer_s(std::uint64_t bytes) const;
  // Whether the transfer's next block, of so many bytes, should have arrived long ago.
  bool is_late(const Transfer& transfer, std::uint64_t bytes, TimePoint now) const;

  void transfer_began(std::uint64_t bytes);
  void bytes_arrived(Transfer& transfer, std::uint64_t bytes, TimePoint now);
  void block_arrived(Transfer& transfer, std::uint64_t bytes, TimePoint now);
  // A second failure in a row ends the source, kRefused ends it at once. Transfers that failed together count once.
  void transfer_ended(const Transfer& transfer, TransferEnd how, TimePoint now);

 private:
  void take_sample();

  bool alive_ = true;
  bool presumed_ = false;
  std::vector<bool> offered_;
  std::size_t n_offered_ = 0;
  const TimePoint added_;
  LinkEstimate estimate_;
  RateMeter meter_;
  int active_ = 0;
  int failures_ = 0;  // in a row
  TimePoint failed_at_{};
  std::uint64_t asked_bytes_ = 0;
};

}  // namespace celslm
