// POST /v1/responses as data: OpenAI's newer API, here without memory: every request brings its conversation along.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "core/result.h"
#include "serve/openai/openai.h"

namespace celslm {

struct ResponsesRequest {
  CompletionRequest completion;  // a chat
  nlohmann::json shown;          // fields of the request that the answer repeats
};

// Input is a text or items: messages, function_call, function_call_output, reasoning. Instructions become the system
// message, before one that the input begins with. kInvalid with the field's name; what refers to something kept by the
// server (previous_response_id, conversation, prompt, background, item_reference) and tools other than functions are
// refused.
Result<ResponsesRequest> parse_responses_request(std::string_view body);

// Makes the JSON of one response, complete or as events. One instance per request; not thread-safe.
class ResponsesWriter {
 public:
  ResponsesWriter(const ResponsesRequest& request, std::string model, std::string_view unique, std::int64_t created_unix_s);

  // Server-sent events ("event: …\ndata: …\n\n", possibly several), in this order; also to be called where the response is
  // not streamed.
  std::string begin();
  std::string add(const AnswerDelta& delta);
  std::string end(FinishReason reason, const Usage& usage, const nlohmann::json& x_celslm);
  // In place of end().
  std::string fail(const Error& error);

  // The complete response, after end().
  const nlohmann::json& response() const { return response_; }

 private:
  enum class Open { kNothing, kReasoning, kMessage, kCall };
  std::string event(const char* type, nlohmann::json fields);
  std::string open(Open kind, nlohmann::json item);
  std::string close(const char* status);
  std::string text_delta(Open kind, const std::string& text);
  std::string call_delta(const CallDelta& delta);
  std::string part_event(const char* type, const nlohmann::json& part);
  nlohmann::json& item() { return response_["output"].back(); }
  std::string item_id(const char* prefix) const;

  const std::string unique_;
  nlohmann::json response_;
  Open open_ = Open::kNothing;
  std::size_t call_ = 0;  // the open one's index
  int n_events_ = 0;
};

}  // namespace celslm
