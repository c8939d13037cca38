// Tools of a chat request: what they are, how the model is to use them, and the calls and results of earlier turns.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "model/text/text.h"

namespace celslm {

// Limits, each with what it stops.
inline constexpr std::size_t kMaxTools = 128;           // OpenAI's own
inline constexpr std::size_t kMaxToolName = 64;         // the same
inline constexpr std::size_t kMaxCallsInMessage = 128;  // every call is looked for by its results
inline constexpr std::size_t kMaxToolBytes = 1U << 20;  // of all definitions; they become part of the prompt
inline constexpr std::size_t kMaxCallIdBytes = 256;

struct Tool {
  std::string name;        // 1..kMaxToolName letters, digits, '_' and '-'
  std::string parameters;  // JSON schema of an object, as text with the keys in the client's order; empty: no arguments
  bool strict = false;     // a schema that cannot be enforced is refused rather than ignored
};

enum class ToolChoice { kNone, kAuto, kRequired, kNamed };

struct ToolUse {
  std::vector<Tool> tools;  // empty: none; names differ
  std::string definitions;  // the "tools" array as a template reads it (ChatOptions::tools)
  ToolChoice choice = ToolChoice::kNone;
  std::string named;     // of kNamed: one of the tools
  bool parallel = true;  // several calls in one answer

  // Whether the answer may contain calls.
  bool allowed() const { return choice != ToolChoice::kNone; }
};

// The fields tools, tool_choice and parallel_tool_calls. `body` is the request's text, in which keys have the client's
// order. kInvalid, naming the field. "functions" and "function_call" are refused.
Result<ToolUse> tools_of(const JsonFields& fields, std::string_view body);

// For requests that carry a tool as {"type": "function", "name", ...} (/v1/responses): tools as the templates know them.
// The same errors.
Result<ToolUse> flat_tools_of(const JsonFields& fields, std::string_view body);

// A call of the flat form: {"call_id", "name", "arguments"}.
Result<ToolCall> call_of(const JsonFields& item);

// What an assistant's message holds in "tool_calls".
Result<std::vector<ToolCall>> calls_of(const JsonFields& message);

}  // namespace celslm
