// An HttpClient whose calls are paid from a ByteBudget.
#pragma once

#include <memory>

#include "net/byte_budget.h"
#include "net/http_client.h"

namespace celslm {

// Reserves what a call will move before it is made: the request, the head of the response, and its body (the length of a
// range, HttpCall::expected_body_bytes, or step by step where neither is known). A call that the budget does not cover is
// not made, or ends where the next step is not covered: kOverloaded, "… --max-bytes-per-hour …". What was reserved and not
// used is given back, except of a call that was aborted: what the peer had sent by then is not known. Heads and bodies are
// counted, not what TLS and TCP add to them.
//
// Thread-safe. Several clients may share one budget.
class BudgetedClient final : public HttpClient {
 public:
  BudgetedClient(std::unique_ptr<HttpClient> inner, std::shared_ptr<ByteBudget> budget)
      : inner_(std::move(inner)), budget_(std::move(budget)) {}

  Result<HttpAnswer> call(const HttpCall& call) override;
  std::string base_url() const override { return inner_->base_url(); }

 private:
  const std::unique_ptr<HttpClient> inner_;
  const std::shared_ptr<ByteBudget> budget_;
};

}  // namespace celslm
