// What one key has used of its limits.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>

#include "core/clock.h"
#include "core/mutex.h"

namespace celslm {

// Each stops one user of a key from taking the place of all others; 0: no limit.
struct KeyLimits {
  std::int64_t requests_per_minute = 0;
  std::int64_t tokens_per_minute = 0;  // computed for prompts, and generated
  std::int64_t concurrency = 0;        // requests at the same time
  bool operator==(const KeyLimits&) const = default;
};

// Why a request is refused, and when the next one may be taken.
struct KeyRefusal {
  std::string limit;  // "60 requests per minute"
  std::chrono::seconds retry_after{1};
};

// Requests and tokens refill steadily: a minute's worth may be used at once, and is back a minute later. What a request
// costs in tokens is known at its end only, so tokens may go below zero; further requests then wait until they are back.
// Thread-safe. The clock must outlive it.
class KeyMeter {
 public:
  explicit KeyMeter(const Clock& clock) : clock_(clock) {}

  // Counts a request, which end() ends; counts nothing of one that is refused.
  std::expected<void, KeyRefusal> begin(const KeyLimits& limits) CELSLM_EXCLUDES(mutex_);
  void end() CELSLM_EXCLUDES(mutex_);
  void charge(std::int64_t tokens) CELSLM_EXCLUDES(mutex_);

 private:
  // What is left of a minute's worth.
  struct Bucket {
    double level = 0;
    TimePoint at;
    bool used = false;

    void refill(TimePoint now, std::int64_t per_minute);
    std::chrono::seconds until(double wanted, std::int64_t per_minute) const;
  };

  const Clock& clock_;
  Mutex mutex_;
  Bucket requests_ CELSLM_GUARDED_BY(mutex_);
  Bucket tokens_ CELSLM_GUARDED_BY(mutex_);
  std::int64_t running_ CELSLM_GUARDED_BY(mutex_) = 0;
};

// One request by a key, from its admission to the end of its answer. Thread-safe.
class KeyUse {
 public:
  static std::expected<std::shared_ptr<KeyUse>, KeyRefusal> begin(std::shared_ptr<KeyMeter> meter, const KeyLimits& limits);
  ~KeyUse() { meter_->end(); }
  KeyUse(const KeyUse&) = delete;
  KeyUse& operator=(const KeyUse&) = delete;

  // For what is charged after the request's end, or by whoever must not make it last longer.
  const std::shared_ptr<KeyMeter>& meter() const { return meter_; }

 private:
  explicit KeyUse(std::shared_ptr<KeyMeter> meter) : meter_(std::move(meter)) {}
  const std::shared_ptr<KeyMeter> meter_;
};

}  // namespace celslm
