// One source of blocks as the plan sees it: what it has, how fast it has been, what it is asked for now.
#pragma once

#include <cstdint>
#include <vector>

#include "core/clock.h"
#include "plan/estimate.h"

namespace celslm {

using FlightId = std::uint64_t;

struct SourceTraits {
  int max_flights = 1;                   // requests under way at once
  bool is_neighbour = false;             // takes the shallow end where it is about as fast as the others
  bool is_metered = true;                // its bytes cross a network
  std::uint64_t max_bytes = UINT64_MAX;  // it may be asked for, at most
  LinkEstimate estimate;                 // from earlier, if any
};

// A request under way: blocks [first, first + count), which come in order.
struct Flight {
  FlightId id = 0;
  int source = 0;
  int first = 0;
  int count = 0;
  int next = 0;            // the block that comes next
  std::uint64_t part = 0;  // bytes of it that have come
  bool answered = false;   // its first byte has come
  bool opening = false;    // it asks for the pack's header, too: how long that takes says nothing about other requests
  TimePoint began{};
  TimePoint moved{};  // the last time a block was whole; before that, when the first byte came, or the beginning

  int end() const { return first + count; }
};

// Not thread-safe, like the plan that owns it.
class SourceState {
 public:
  SourceState(const SourceTraits& traits, int n_blocks, TimePoint now);

  const SourceTraits traits;

  bool alive() const { return alive_; }
  void drop() { alive_ = false; }

  void offer(int first, int count);
  bool has(int block) const { return presumed_ || offered_[static_cast<std::size_t>(block)]; }
  // While it is `presumed`, it is taken to have every block, offered or not.
  void presume(bool presumed) { presumed_ = presumed; }
  bool is_presumed() const { return presumed_; }
  bool has_all() const { return n_offered_ == offered_.size(); }
  // Or has not been able to say so yet: one that was good before is believed to have all for a moment.
  bool seems_to_have_all(TimePoint now) const;
  // Seconds until the rest is offered, as things went so far; infinite before the first offer.
  double grows_for_s(TimePoint now) const;

  const LinkEstimate& estimate() const { return estimate_; }
  int active() const { return active_; }
  // More requests at once help only while answers are shorter than the wait for them.
  bool wants_flight() const;
  // How much one request should ask for, so that the wait for it is small beside it and a change of mind is soon possible.
  std::uint64_t request_bytes() const;
  std::uint64_t bytes_per_wait() const;  // what it sends in the time that a request waits for its first byte
  // Seconds for `bytes` more on one of its flights, the wait for the first excluded. Infinite if the rate is unknown.
  double transfer_s(std::uint64_t bytes) const;
  // A flight whose next block, of so many bytes, should have come long ago.
  bool is_late(const Flight& flight, std::uint64_t bytes, TimePoint now) const;

  void flight_began(std::uint64_t bytes);
  void arrived(Flight& flight, std::uint64_t bytes, TimePoint now);
  void block_came(Flight& flight, std::uint64_t bytes, TimePoint now);
  // A second failure in a row ends the source, `fatal` ends it at once. Flights that broke together count once.
  void flight_ended(const Flight& flight, bool failed, bool fatal, TimePoint now);
  std::uint64_t asked_bytes() const { return asked_bytes_; }

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
