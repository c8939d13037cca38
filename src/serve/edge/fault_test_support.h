// What can go wrong between an edge and those it reads packs from. Each fault counts how often it struck, so that a test can
// make sure that it did.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <new>
#include <string>

#include "kv/pack/pack.h"
#include "tests/support/local_net.h"

namespace celslm::testing_support {

struct PackFault {
  Fault fault;
  std::shared_ptr<std::atomic<int>> strikes;

  operator Fault() const { return fault; }
  int struck() const { return *strikes; }
};

// Of each call about a pack whose path has `part`, `inner` makes the answer.
inline PackFault only_packs(Fault inner, std::string part = "") {
  auto strikes = std::make_shared<std::atomic<int>>(0);
  return {[=, inner = std::move(inner)](const HttpCall& call, const auto& go_on) -> Result<HttpAnswer> {
            if (!call.path.starts_with("/v1/packs/") || !call.path.contains(part)) return go_on();
            ++*strikes;
            return inner(call, go_on);
          },
          strikes};
}

inline PackFault answering(int status, std::string body, std::string part = "") {
  return only_packs(
      [=](const HttpCall&, const auto&) -> Result<HttpAnswer> {
        return HttpAnswer{.status = status, .body = Bytes(as_bytes(body).begin(), as_bytes(body).end())};
      },
      std::move(part));
}

inline PackFault failing(std::string message, std::string part = "") {
  return only_packs(
      [=](const HttpCall&, const auto&) -> Result<HttpAnswer> { return fail(ErrorKind::kUnavailable, "{}", message); },
      std::move(part));
}

inline PackFault running_out_of_memory(std::string part = "") {
  return only_packs([](const HttpCall&, const auto&) -> Result<HttpAnswer> { throw std::bad_alloc(); }, std::move(part));
}

// From the n-th fetch of blocks on.
inline PackFault dying_after(int n) {
  auto strikes = std::make_shared<std::atomic<int>>(0);
  auto left = std::make_shared<std::atomic<int>>(n);
  return {[=](const HttpCall& call, const auto& go_on) -> Result<HttpAnswer> {
            if (!call.path.contains("/blocks") || left->fetch_sub(1) > 0) return go_on();
            ++*strikes;
            return fail(ErrorKind::kUnavailable, "connection reset");
          },
          strikes};
}

// Whatever brings blocks: a range of them, or a header with the first ones behind it.
inline PackFault changing_blocks(std::function<void(Bytes&)> change) {
  auto strikes = std::make_shared<std::atomic<int>>(0);
  return {[=, change = std::move(change)](const HttpCall& call, const auto& go_on) -> Result<HttpAnswer> {
            auto answer = go_on();
            const bool with_header = call.path.contains("/header?blocks=");
            if (!answer || answer->status != (with_header ? 200 : 206)) return answer;
            const auto head = static_cast<std::ptrdiff_t>(with_header ? peek_header_bytes(answer->body).value() : 0);
            Bytes blocks(answer->body.begin() + head, answer->body.end());
            change(blocks);
            answer->body.erase(answer->body.begin() + head, answer->body.end());
            answer->body.insert(answer->body.end(), blocks.begin(), blocks.end());
            ++*strikes;
            return answer;
          },
          strikes};
}

}  // namespace celslm::testing_support
