// What a request costs on one node or another, as far as that can be told before it is tokenized; and what another node gets
// of it.
#pragma once

#include <optional>
#include <string>

#include "core/result.h"
#include "net/http_types.h"
#include "plan/routing.h"
#include "serve/edge/context_directory.h"
#include "serve/edge/context_memory.h"
#include "serve/openai/openai.h"

namespace celslm {

struct RoutePlan {
  RouteRequest request;
  std::optional<ContextHandle> context;  // registered, with which it begins
  bool is_resident = false;              // that context is complete in this edge's memory
  bool named_by_text = false;            // its system message is that context's text and nothing else
};

// Tokens are estimated: a quarter of the bytes of texts, what a resident context has, and at most kUsualAnswerTokens of an
// answer.
inline constexpr int kBytesPerToken = 4;
inline constexpr int kUsualAnswerTokens = 128;
RoutePlan route_plan(const CompletionRequest& request, RequestPolicy policy, const HttpRequest& http,
                     const ContextDirectory& directory, const ContextMemory& contexts);

// The body that another node gets: the client's without the model's name (the other node may call it otherwise), and with
// the handle in place of a system message that is a registered text. kInvalid for a body that cannot be read in order.
Result<std::string> forwarded_body(const HttpRequest& http, const RoutePlan& plan);

}  // namespace celslm
