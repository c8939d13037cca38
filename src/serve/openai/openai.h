// The OpenAI API as data: requests parsed and checked, responses and stream chunks built. No sockets, no engine.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/result.h"
#include "model/text/sampler.h"
#include "model/text/text.h"
#include "plan/policy.h"
#include "serve/openai/answer_parser.h"
#include "serve/openai/tools.h"
#include "serve/wire/protocol.h"

namespace celslm {

// Limits beyond the body's size, each with what it stops.
inline constexpr std::size_t kMaxStops = 16;        // every token is compared with every stop string
inline constexpr std::size_t kMaxStopBytes = 1024;  // the same, and text held back without end
inline constexpr int kMaxTexts = 128;               // of one answer: prompts times n
inline constexpr std::size_t kMaxBiases = 1024;     // each is compared with the vocabulary at every token
inline constexpr int kMaxTopLogprobs = 20;          // an answer many times as long as its text

// A request for text, from either endpoint.
struct CompletionRequest {
  bool chat = true;
  std::string model;                                     // empty: the one this edge hosts
  std::vector<ChatMessage> messages;                     // chat
  ToolUse tools;                                         // chat
  bool own_grammar = false;                              // sampler.grammar is the field "grammar", not response_format's
  bool thinking = true;                                  // chat: chat_template_kwargs.enable_thinking
  bool keep_thoughts = false;                            // chat: reasoning_format "none", thoughts stay in the text
  std::variant<std::string, std::vector<Token>> prompt;  // completions: text or token ids
  // Completions with several prompts: all of them, `prompt` being the first; otherwise empty.
  std::vector<std::variant<std::string, std::vector<Token>>> prompts;
  int n = 1;                            // texts for each prompt
  bool continue_final_message = false;  // chat: the answer goes on where the last message, the assistant's, ends
  bool echo = false;                    // completions: the prompt is part of the answer's text
  std::optional<int> max_tokens;        // absent: up to the model's context; 0: completions only
  SamplerOptions sampler;               // greedy unless a temperature is given
  bool seed_given = false;              // otherwise the caller draws sampler.seed, so that two requests differ
  std::vector<std::string> stop;        // at most kMaxStops, none empty
  bool stream = false;
  bool include_usage = false;  // stream_options.include_usage
  bool logprobs = false;
  int top_logprobs = 0;                  // 0..kMaxTopLogprobs
  std::optional<ContextHandle> context;  // x_celslm.context
  // x_celslm.deadline_ms: from then on nothing is asked of the network for the context, and the rest of it is computed
  std::optional<std::chrono::milliseconds> deadline;
  std::optional<RequestPolicy> policy;  // x_celslm.policy; absent: the edge's usual one
  bool confidence = false;              // x_celslm.confidence: how sure the model was is part of the answer

  // What the model is not to use it is not told of.
  ChatOptions chat_options() const { return {.tools = tools.allowed() ? tools.definitions : "", .thinking = thinking}; }
};

// kInvalid with the field's name and what was expected. Null is the same as absent. Of OpenAI's fields, those that would
// change the answer and are not honoured are refused by name (unsupported.h); fields that OpenAI does not have are ignored.
// Message contents may be strings or arrays of {"type":"text","text"} parts (joined by newlines); others are refused by
// name. Roles are system, developer (another word for system), user, assistant and tool: a role becomes part of the
// template's own text, so nothing else may get in there. Tools, their calls and results: serve/openai/tools.h.
Result<CompletionRequest> parse_chat_request(std::string_view body);
Result<CompletionRequest> parse_completion_request(std::string_view body);

// The API has no value for a cancelled answer; clients understand "length" as incomplete.
enum class FinishReason { kStop, kLength, kCancelled };

struct Usage {
  int prompt_tokens = 0;
  int cached_tokens = 0;  // of them, not prefilled for this request
  int completion_tokens = 0;
};

// An answer, taken apart.
struct AnswerMessage {
  std::string content;
  std::string reasoning;
  std::vector<ToolCall> tool_calls;

  // Appends; ids of new calls are made from `id` (see call_id).
  void add(const AnswerDelta& delta, std::string_view id);
};

// Of the index-th call in the answer `unique`: ends differently for each call, as some templates show the end only.
std::string call_id(std::string_view unique, std::size_t index);

// One generated token's probability, as text. `bytes` are the token's own and may be incomplete UTF-8.
struct TokenText {
  std::string bytes;
  float logprob = 0.0F;
  std::vector<std::pair<std::string, float>> top;
  bool is_first = false;  // of the prompt: nothing comes before it, so it has no probability
  bool is_shown = true;   // a BOS before the prompt is not part of any text
};

// Makes the JSON of one answer. One instance per request; not thread-safe.
class CompletionWriter {
 public:
  // id: "chatcmpl-…" / "cmpl-…" is derived from `unique`.
  CompletionWriter(const CompletionRequest& request, std::string model, std::string_view unique,
                   std::int64_t created_unix_s);

  // One text of an answer; `tokens`: those of its text, the prompt's included where it is echoed.
  nlohmann::json choice(int index, const AnswerMessage& answer, std::span<const TokenText> tokens,
                        FinishReason reason) const;
  // The complete answer of choices.
  nlohmann::json response(nlohmann::json choices, const Usage& usage, const nlohmann::json& x_celslm) const;
  // Of one.
  nlohmann::json response(const AnswerMessage& answer, std::span<const TokenText> tokens, FinishReason reason,
                          const Usage& usage, const nlohmann::json& x_celslm) const;

  // Server-sent events, each a complete "data: …\n\n".
  // Before the last event the pieces of text and the tokens may come in different calls (text is held back, tokens are not).
  std::string first_event(int index = 0) const;  // chat: the role; completions: an empty text
  std::string delta_event(const AnswerDelta& delta, std::span<const TokenText> tokens, int index = 0);
  // x_celslm: null in all but the last of several texts'
  std::string last_event(FinishReason reason, const nlohmann::json& x_celslm, int index = 0) const;
  std::string usage_event(const Usage& usage) const;
  // A comment: clients skip it. It keeps proxies from closing a quiet connection, and shows whether anybody still reads.
  static std::string comment_event() { return ": waiting\n\n"; }
  static std::string done_event();  // "data: [DONE]\n\n"
  static std::string error_event(const Error& error);

 private:
  nlohmann::json envelope(bool chunk) const;
  nlohmann::json chunk(int index, nlohmann::json choice) const;
  // `offset`: characters of the answer before the first token (completions only).
  nlohmann::json logprobs(std::span<const TokenText> tokens, std::size_t offset) const;
  const bool chat_;
  const bool logprobs_;
  const bool include_usage_;
  const std::string model_;
  const std::string unique_;
  const std::string id_;
  const std::int64_t created_;
  std::map<int, std::size_t> streamed_;  // characters of the tokens in earlier events, by choice
  std::set<int> streamed_calls_;         // choices that have called tools
};

// Turns token pieces into text that may be sent: holds back incomplete UTF-8 and anything that may become a stop string.
// What comes out is always UTF-8 and does not depend on how the text was cut into pieces; it ends before the stop string
// that was complete first (of those ending together, before the longest). Not thread-safe.
class TextAssembler {
 public:
  // Empty stop strings are dropped.
  explicit TextAssembler(std::vector<std::string> stop);

  // Text that is now certain. After stopped() is true nothing more comes.
  std::string add(std::string_view piece);
  // What is left at the end; incomplete UTF-8 becomes U+FFFD.
  std::string flush();
  bool stopped() const { return stopped_; }
  // How many of the pieces' bytes have come out: all before the stop string, once it was found.
  std::size_t certain_bytes() const { return certain_bytes_; }

 private:
  std::vector<std::string> stop_;
  std::string held_;
  std::size_t certain_bytes_ = 0;
  bool stopped_ = false;
};

}  // namespace celslm
