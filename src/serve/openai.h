// The OpenAI API as data: requests parsed and checked, responses and stream chunks built. No sockets, no engine.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/result.h"
#include "model/sampler.h"
#include "model/text.h"
#include "serve/protocol.h"

namespace celslm {

// A request for text, from either endpoint.
struct CompletionRequest {
  bool chat = true;
  std::string model;
  std::vector<ChatMessage> messages;   // chat
  std::variant<std::string, std::vector<Token>> prompt;  // completions: text or token ids
  bool echo = false;                   // completions: the prompt is part of the answer's text
  std::optional<int> max_tokens;       // absent: up to the model's context
  SamplerOptions sampler;
  std::vector<std::string> stop;       // at most 16, none empty
  bool stream = false;
  bool include_usage = false;          // stream_options.include_usage
  bool logprobs = false;
  int top_logprobs = 0;                // 0..20
  std::optional<ContextHandle> context;  // x_celslm.context
};

// kInvalid with the field's name and what was expected. Unknown fields are ignored.
// Message contents may be strings or arrays of {"type":"text","text"} parts; others are refused by name.
Result<CompletionRequest> parse_chat_request(std::string_view body);
Result<CompletionRequest> parse_completion_request(std::string_view body);

enum class FinishReason { kStop, kLength, kCancelled };

struct Usage {
  int prompt_tokens = 0;
  int cached_tokens = 0;  // of them, not prefilled for this request
  int completion_tokens = 0;
};

// One generated token's probability, as text. `bytes` are the token's own, which need not be whole UTF-8.
struct TokenText {
  std::string bytes;
  float logprob = 0.0F;
  std::vector<std::pair<std::string, float>> top;
};

// Makes the JSON of one answer. One instance per request; not thread-safe.
class CompletionWriter {
 public:
  // id: "chatcmpl-…" / "cmpl-…" is derived from `unique`.
  CompletionWriter(const CompletionRequest& request, std::string model, std::string unique, std::int64_t created_unix_s);

  // The whole answer.
  nlohmann::json response(std::string_view text, std::span<const TokenText> tokens, FinishReason reason, const Usage& usage,
                          const nlohmann::json& x_celslm) const;

  // Server-sent events, each a complete "data: …\n\n".
  std::string first_event() const;  // chat: the role
  std::string delta_event(std::string_view text, std::span<const TokenText> tokens) const;
  std::string last_event(FinishReason reason, const nlohmann::json& x_celslm) const;
  std::string usage_event(const Usage& usage) const;
  static std::string done_event();  // "data: [DONE]\n\n"
  static std::string error_event(const Error& error);

 private:
  nlohmann::json envelope(bool chunk) const;
  const bool chat_;
  const bool logprobs_;
  const std::string model_;
  const std::string id_;
  const std::int64_t created_;
};

// Turns token pieces into text that may be sent: holds back incomplete UTF-8 and anything that may become a stop string.
class TextAssembler {
 public:
  explicit TextAssembler(std::vector<std::string> stop);

  // Text that is now certain. After stopped() is true nothing more comes.
  std::string add(std::string_view piece);
  // What is left at the end; incomplete UTF-8 becomes U+FFFD.
  std::string flush();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stop_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace celslm
