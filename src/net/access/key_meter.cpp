#include "net/access/key_meter.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace celslm {
namespace {

// One, but for rounding.
constexpr double kOne = 1 - 1e-9;

double per_second(std::int64_t per_minute) {
  return static_cast<double>(per_minute) / 60;
}

std::unexpected<KeyRefusal> refused(std::int64_t limit, const char* of_what, std::chrono::seconds retry_after) {
  return std::unexpected(KeyRefusal{.limit = fmt::format("{} {}", limit, of_what), .retry_after = retry_after});
}

}  // namespace

void KeyMeter::Bucket::refill(TimePoint now, std::int64_t per_minute) {
  const auto full = static_cast<double>(per_minute);
  level = used ? std::min(full, level + seconds(now - at) * per_second(per_minute)) : full;
  used = true;
  at = now;
}

std::chrono::seconds KeyMeter::Bucket::until(double wanted, std::int64_t per_minute) const {
  const double wait = std::ceil((wanted - level) / per_second(per_minute) - 1e-6);
  constexpr double kMostSeconds = 3600;
  return std::chrono::seconds(static_cast<std::int64_t>(std::clamp(wait, 1.0, kMostSeconds)));
}

std::expected<void, KeyRefusal> KeyMeter::begin(const KeyLimits& limits) {
  const TimePoint now = clock_.now();
  const MutexLock lock(mutex_);
  if (limits.concurrency > 0 && running_ >= limits.concurrency)
    return refused(limits.concurrency, "requests at the same time", std::chrono::seconds(1));
  if (limits.tokens_per_minute > 0) {
    tokens_.refill(now, limits.tokens_per_minute);
    if (tokens_.level < kOne)
      return refused(limits.tokens_per_minute, "tokens per minute", tokens_.until(1, limits.tokens_per_minute));
  }
  if (limits.requests_per_minute > 0) {
    requests_.refill(now, limits.requests_per_minute);
    if (requests_.level < kOne)
      return refused(limits.requests_per_minute, "requests per minute", requests_.until(1, limits.requests_per_minute));
    requests_.level -= 1;
  }
  ++running_;
  return {};
}

void KeyMeter::end() {
  const MutexLock lock(mutex_);
  --running_;
}

void KeyMeter::charge(std::int64_t tokens) {
  const MutexLock lock(mutex_);
  if (tokens_.used) tokens_.level -= static_cast<double>(tokens);
}

std::expected<std::shared_ptr<KeyUse>, KeyRefusal> KeyUse::begin(std::shared_ptr<KeyMeter> meter, const KeyLimits& limits) {
  if (auto begun = meter->begin(limits); !begun) return std::unexpected(std::move(begun).error());
  return std::shared_ptr<KeyUse>(new KeyUse(std::move(meter)));
}

}  // namespace celslm
