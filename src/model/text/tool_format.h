// How a model writes its thoughts and its calls of tools, read from its chat template.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace celslm {

// Each with a call of f(x = "a") as the model writes it.
enum class ToolFormat {
  kGeneric,        // {"tool_calls": [{"name": "f", "arguments": {"x": "a"}}]}, for templates that know no tools
  kHermes,         // <tool_call>\n{"name": "f", "arguments": {"x": "a"}}\n</tool_call>: Hermes, Qwen 2.5 and 3, Granite 4
  kQwenCoder,      // <tool_call>\n<function=f>\n<parameter=x>\na\n</parameter>\n</function>\n</tool_call>
  kLlama3,         // {"name": "f", "parameters": {"x": "a"}}, sometimes behind <|python_tag|>
  kMistral,        // [TOOL_CALLS][{"name": "f", "arguments": {"x": "a"}}]
  kMistralNamed,   // [TOOL_CALLS]f[ARGS]{"x": "a"}
  kGranite,        // <|tool_call|>[{"name": "f", "arguments": {"x": "a"}}]: Granite 3
  kFunctionGemma,  // <start_function_call>call:f{x:<escape>a<escape>}<end_function_call>
  kGemma4,         // <|tool_call>call:f{x:<|"|>a<|"|>}<tool_call|>
};

const char* to_string(ToolFormat format);

// What of an answer is not plain text.
struct ChatStyle {
  ToolFormat tools = ToolFormat::kGeneric;
  // Around thoughts; empty where the template knows none.
  std::string thoughts_open;
  std::string thoughts_close;
  // The template itself opens the thoughts, so that an answer begins within them.
  bool begins_in_thoughts = false;

  // Words of an answer that mean something, though a vocabulary may hold them as control tokens, which are no text.
  std::vector<std::string> markers() const;
};

// From a template's source. knows_tools: whether it writes definitions of tools.
ChatStyle chat_style_of(std::string_view source, bool knows_tools);

}  // namespace celslm
