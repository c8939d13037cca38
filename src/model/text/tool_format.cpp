#include "model/text/tool_format.h"

#include <array>
#include <utility>

namespace celslm {
namespace {

ToolFormat tools_of(std::string_view source) {
  // The first that occurs: some templates also hold words of a family that they were derived from.
  constexpr std::array<std::pair<std::string_view, ToolFormat>, 8> kSigns = {{
      {"[ARGS]", ToolFormat::kMistralNamed},
      {"[TOOL_CALLS]", ToolFormat::kMistral},
      {"<start_function_call>", ToolFormat::kFunctionGemma},
      {"<|tool_call>", ToolFormat::kGemma4},
      {"<|tool_call|>", ToolFormat::kGranite},
      {"<function=", ToolFormat::kQwenCoder},
      {"<tool_call>", ToolFormat::kHermes},
      {"<|start_header_id|>", ToolFormat::kLlama3},
  }};
  for (const auto& [sign, format] : kSigns) {
    if (source.contains(sign)) return format;
  }
  return ToolFormat::kGeneric;
}

void read_thoughts(std::string_view source, ChatStyle& out) {
  constexpr std::array<std::array<std::string_view, 3>, 3> kTags = {{
      {"</think>", "<think>", "</think>"},
      {"[/THINK]", "[THINK]", "[/THINK]"},
      {"<channel|>", "<|channel>thought\n", "<channel|>"},
  }};
  for (const auto& [sign, open, close] : kTags) {
    if (!source.contains(sign)) continue;
    out.thoughts_open = open;
    out.thoughts_close = close;
    return;
  }
}

}  // namespace

const char* to_string(ToolFormat format) {
  switch (format) {
    case ToolFormat::kGeneric: return "generic";
    case ToolFormat::kHermes: return "hermes";
    case ToolFormat::kQwenCoder: return "qwen-coder";
    case ToolFormat::kLlama3: return "llama3";
    case ToolFormat::kMistral: return "mistral";
    case ToolFormat::kMistralNamed: return "mistral-named";
    case ToolFormat::kGranite: return "granite";
    case ToolFormat::kFunctionGemma: return "function-gemma";
    case ToolFormat::kGemma4: return "gemma4";
  }
  return "";
}

std::vector<std::string> ChatStyle::markers() const {
  std::vector<std::string> out;
  switch (tools) {
    case ToolFormat::kGeneric:
    case ToolFormat::kHermes:
    case ToolFormat::kQwenCoder: out = {"<tool_call>", "</tool_call>"}; break;
    case ToolFormat::kLlama3: out = {"<|python_tag|>"}; break;
    case ToolFormat::kMistral:
    case ToolFormat::kMistralNamed: out = {"[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"}; break;
    case ToolFormat::kGranite: out = {"<|tool_call|>", "<tool_call>", "</tool_call>"}; break;
    case ToolFormat::kFunctionGemma:
      out = {"<start_function_call>", "<end_function_call>", "<escape>", "<start_function_response>"};
      break;
    case ToolFormat::kGemma4: out = {"<|tool_call>", "<tool_call|>", "<|\"|>", "<|tool_response>"}; break;
  }
  if (thoughts_open.starts_with("<|channel>")) {
    out.emplace_back("<|channel>");
  } else if (!thoughts_open.empty()) {
    out.push_back(thoughts_open);
  }
  if (!thoughts_close.empty()) out.push_back(thoughts_close);
  return out;
}

ChatStyle chat_style_of(std::string_view source, bool knows_tools) {
  ChatStyle out;
  if (knows_tools) out.tools = tools_of(source);
  read_thoughts(source, out);
  return out;
}

}  // namespace celslm
