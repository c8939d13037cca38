#include "serve/edge/route_plan.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <variant>

#include "core/json.h"
#include "kv/pack/context_handle.h"
#include "serve/route/forwarder.h"
#include "serve/wire/context_text.h"

namespace celslm {
namespace {

using ordered = nlohmann::ordered_json;

constexpr std::string_view kChatPath = "/v1/chat/completions";
constexpr int kTokensAroundMessage = 8;  // of the chat template

bool begins_with_system_message(const CompletionRequest& request) {
  return request.chat && !request.messages.empty() && request.messages.front().role == "system";
}

int tokens_of(std::size_t bytes) {
  return static_cast<int>(bytes / kBytesPerToken);
}

int own_tokens(const CompletionRequest& request, std::size_t context_bytes) {
  if (!request.chat) {
    const auto* ids = std::get_if<std::vector<Token>>(&request.prompt);
    return ids != nullptr ? static_cast<int>(ids->size()) : tokens_of(std::get<std::string>(request.prompt).size());
  }
  std::size_t bytes = request.tools.allowed() ? request.tools.definitions.size() : 0;
  for (const ChatMessage& message : request.messages) bytes += message.content.size();
  return tokens_of(bytes - std::min(bytes, context_bytes)) +
         kTokensAroundMessage * static_cast<int>(request.messages.size());
}

}  // namespace

RoutePlan route_plan(const CompletionRequest& request, RequestPolicy policy, const HttpRequest& http,
                     const ContextDirectory& directory, const ContextMemory& contexts) {
  RoutePlan out{.request = {.policy = policy, .was_forwarded = was_forwarded(http)}};
  std::size_t in_messages = 0;
  std::size_t context_bytes = 0;
  if (request.context) {
    out.context = request.context;
    context_bytes = directory.bytes_of(*request.context);
  } else if (begins_with_system_message(request)) {
    const auto beginning = directory.beginning(request.messages.front().content, http.caller.tenant);
    if (beginning) out.context = context_handle(beginning->text, http.caller.tenant);
    if (beginning) context_bytes = in_messages = beginning->text.size();
    out.named_by_text = beginning && beginning->message == beginning->text;
  }
  if (out.context) {
    const auto resident = contexts.table().find(*out.context);
    out.is_resident = resident && resident->complete();
    out.request.stays_here = directory.contains(*out.context) && !directory.is_public(*out.context);
    out.request.context_tokens = resident ? static_cast<int>(resident->tokens.size()) : tokens_of(context_bytes);
  }
  out.request.prompt_tokens = std::max(own_tokens(request, in_messages), 1);
  out.request.answer_tokens = std::min(request.max_tokens.value_or(kUsualAnswerTokens), kUsualAnswerTokens);
  return out;
}

Result<std::string> forwarded_body(const HttpRequest& http, const RoutePlan& plan) {
  CELSLM_TRY(ordered body, parse_ordered_object(http.body));
  body.erase("model");
  if (!body.contains("x_celslm") || body["x_celslm"].is_null()) body["x_celslm"] = ordered::object();
  body["x_celslm"]["policy"] = to_string(RequestPolicy::kEdgeOnly);  // it answers itself, and asks nobody
  const bool text_only = plan.context && plan.named_by_text && http.path == kChatPath;
  if (text_only && body["messages"].size() > 1) {
    body["messages"].erase(body["messages"].begin());
    body["x_celslm"]["context"] = plan.context->hex();
  }
  return body.dump(-1, ' ', false, ordered::error_handler_t::replace);
}

}  // namespace celslm
