// The first byte chooses format, thoughts and whether one call is wanted, the second the pieces' size; the rest is the
// answer.
#include <cstdint>
#include <cstdlib>
#include <map>

#include "core/utf8.h"
#include "serve/openai/answer_parser.h"

namespace celslm {
namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

struct Outcome {
  std::string content;
  std::string reasoning;
  std::map<std::size_t, std::pair<std::string, std::string>> calls;
  bool operator==(const Outcome&) const = default;

  void add(const AnswerDelta& delta) {
    content += delta.content;
    reasoning += delta.reasoning;
    for (const CallDelta& call : delta.calls) {
      require(calls.contains(call.index) == call.name.empty() && call.index <= calls.size());
      calls[call.index].first += call.name;
      calls[call.index].second += call.arguments;
    }
  }
};

Outcome outcome(AnswerParser parser, std::string_view text, std::size_t piece) {
  Outcome out;
  for (; !text.empty(); text.remove_prefix(std::min(piece, text.size()))) out.add(parser.add(text.substr(0, piece)));
  out.add(parser.flush());
  require(parser.has_calls() == !out.calls.empty());
  return out;
}

void parse(std::uint8_t kind, std::size_t piece, std::string_view text) {
  const bool thinks = (kind & 0x10U) != 0;
  const ChatStyle style{.tools = static_cast<ToolFormat>(kind % 9),
                        .thoughts_open = thinks ? "<think>" : "",
                        .thoughts_close = thinks ? "</think>" : ""};
  const ToolUse use{.tools = {{.name = "f", .parameters = R"({"properties": {"s": {"type": "string"}}})"}, {.name = "g"}},
                    .choice = ToolChoice::kAuto,
                    .parallel = (kind & 0x20U) == 0};
  const bool inside = (kind & 0x40U) != 0;
  const Outcome whole = outcome(AnswerParser(style, use, inside), text, text.size() + 1);
  require(whole == outcome(AnswerParser(style, use, inside), text, piece));
  for (const auto& [index, call] : whole.calls) require(call.first == "f" || call.first == "g");
  if (is_utf8(text)) require(is_utf8(whole.content) && is_utf8(whole.reasoning));
}

}  // namespace
}  // namespace celslm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  celslm::parse(data[0], data[1] % 32U + 1, {reinterpret_cast<const char*>(data) + 2, size - 2});
  return 0;
}
