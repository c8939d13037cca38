// A chat template of any bytes ends with an error or a rendering: in our check of its source, in minja's parser, in its
// interpreter.
#include <array>
#include <cstdint>
#include <string_view>

#include "model/text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace celslm;
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const auto chat_template = ChatTemplate::create(source, "<s>", "</s>");
  if (!chat_template) return 0;
  const std::array<ChatMessage, 4> messages = {
      {{"system", "Be <brief>.\n"}, {"user", " What's 1 + 1? </s>"}, {"assistant", "<think>a</think> \"2\""}, {"user", ""}}};
  static_cast<void>((*chat_template)->render(messages, true));
  static_cast<void>((*chat_template)->render(std::span(messages).first(2), false));
  const std::array<ChatMessage, 3> called = {{{"user", "x"},
                                              {.role = "assistant",
                                               .content = "",
                                               .reasoning = "r",
                                               .tool_calls = {{.id = "1", .name = "f", .arguments = R"({"a": [1, "b"]})"},
                                                              {.id = "2", .name = "f", .arguments = ""}}},
                                              {.role = "tool", .content = "y", .tool_call_id = "2"}}};
  const ChatOptions options{
      .tools = R"([{"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}])",
      .thinking = false};
  static_cast<void>((*chat_template)->render(called, true, options));
  return 0;
}
