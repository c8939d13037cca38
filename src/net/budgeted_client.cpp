#include "net/budgeted_client.h"

#include <algorithm>

namespace celslm {
namespace {

// Of a request beside its path, its own headers and its body: the method, Host, a token. Of a response: its head.
constexpr std::uint64_t kHeadBytes = 1024;
constexpr std::uint64_t kFirstStep = 4U << 10;  // of a body of unknown length
constexpr std::uint64_t kStep = 64U << 10;

std::uint64_t bytes_to_send(const HttpCall& call) {
  std::uint64_t out = kHeadBytes + call.path.size() + call.body.size();
  for (const auto& [name, value] : call.headers) out += name.size() + value.size() + 4;
  return out;
}

std::uint64_t bytes_to_receive(const HttpCall& call) {
  if (call.range) return kHeadBytes + call.range->end - call.range->first;
  return kHeadBytes + (call.expected_body_bytes > 0 ? call.expected_body_bytes : kFirstStep);
}

}  // namespace

Result<HttpAnswer> BudgetedClient::call(const HttpCall& call) {
  const std::uint64_t needed = bytes_to_send(call) + bytes_to_receive(call);
  const auto refused = [&] {
    return fail(ErrorKind::kOverloaded, "{} is not asked: this hour's bytes are used up (--max-bytes-per-hour {})",
                inner_->base_url(), budget_->bytes_per_hour());
  };
  auto lease = budget_->reserve(needed);
  if (!lease) return refused();
  HttpTraffic moved;
  bool covered = true;
  HttpCall watched = call;
  watched.watch = [&](const HttpTraffic& so_far) {
    moved = so_far;
    if (moved.total() > lease->bytes()) covered = lease->extend(std::max(kStep, moved.total() - lease->bytes()));
    return covered && (!call.watch || call.watch(so_far));
  };
  auto answer = inner_->call(watched);
  if (answer || moved.total() == 0) {
    lease->settle(moved.total());
  } else {
    lease->settle(std::max(moved.total(), lease->bytes()));
  }
  if (!covered && !answer) return refused();
  return answer;
}

}  // namespace celslm
