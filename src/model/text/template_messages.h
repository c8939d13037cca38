// Conversations as chat templates expect them: JSON, fitted to what a template knows. For this layer's own files.
#pragma once

#include <nlohmann/json.hpp>
#include <span>

#include "model/text/text.h"

namespace celslm {

// What a template can write.
struct TemplateAbilities {
  bool typed_contents = false;   // a content is a list of parts with a type rather than a text
  bool system_role = true;       // a system message
  bool tools = false;            // definitions of tools
  bool tool_calls = false;       // calls in earlier answers
  bool parallel_calls = false;   // several in one answer
  bool tool_results = false;     // messages of role "tool"
  bool text_arguments = false;   // a call's arguments are a text rather than an object
  bool short_ids = false;        // a call's id has nine letters and digits, and others are refused
  bool results_in_call = false;  // results belong to the message of the calls, as "tool_responses"
};

struct TemplateInput {
  nlohmann::ordered_json messages;
  nlohmann::ordered_json tools;  // null where there are none, or where the template knows none
};

// What a template does not know is written in a way that it does: tools into the system message, calls into an answer's
// text, results into a user's message, several calls one after another, a system message before the first other content.
// tools: an array as the OpenAI API has it, or null.
TemplateInput template_input(const TemplateAbilities& abilities, std::span<const ChatMessage> messages,
                             const nlohmann::ordered_json& tools);

// The arguments as a JSON object, {} for none, or the text as a JSON string where it is no object.
nlohmann::ordered_json arguments_of(const ToolCall& call);

}  // namespace celslm
