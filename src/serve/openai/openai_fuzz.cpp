// The first byte chooses: a chat request, a completion request, or stop strings and pieces for the assembler.
#include <cstdint>
#include <cstdlib>

#include "core/utf8.h"
#include "serve/openai/openai.h"

namespace celslm {
namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void parse(std::string_view body, bool chat) {
  const auto request = chat ? parse_chat_request(body) : parse_completion_request(body);
  if (!request) {
    require(request.error().kind == ErrorKind::kInvalid && !request.error().message.empty());
    return;
  }
  require(!chat || !request->messages.empty());
  require(request->stop.size() <= kMaxStops && request->top_logprobs >= 0 && request->top_logprobs <= kMaxTopLogprobs);
  CompletionWriter writer(*request, request->model, "1", 0);
  require(is_utf8(writer.delta_event({.content = std::string(body), .reasoning = {}, .calls = {}}, {})));
}

std::string assembled(const std::vector<std::string>& stop, std::string_view text, std::size_t piece, bool& stopped) {
  TextAssembler assembler(stop);
  std::string out;
  for (; !text.empty(); text.remove_prefix(std::min(piece, text.size()))) out += assembler.add(text.substr(0, piece));
  out += assembler.flush();
  stopped = assembler.stopped();
  return out;
}

// One byte for the piece's size, the stop strings up to a byte 0xFE, each ended by 0xFD, and the text.
void assemble(std::string_view data) {
  if (data.empty()) return;
  const std::size_t piece = static_cast<std::uint8_t>(data[0]) % 32U + 1;
  data.remove_prefix(1);
  const std::string_view stops = data.substr(0, data.find('\xFE'));
  const std::string_view text = data.substr(std::min(data.size(), stops.size() + 1));
  std::vector<std::string> stop(1);
  bool well_formed = true;
  for (const char c : stops) c == '\xFD' && stop.size() < kMaxStops ? void(stop.emplace_back()) : stop.back().push_back(c);
  for (const std::string& s : stop) well_formed = well_formed && is_utf8(s);
  bool stopped_whole = false;
  bool stopped_pieces = false;
  const std::string whole = assembled(stop, text, text.size() + 1, stopped_whole);
  const std::string pieces = assembled(stop, text, piece, stopped_pieces);
  require(is_utf8(whole) && is_utf8(pieces) && stopped_whole == stopped_pieces);
  // A stop string from a request is UTF-8, so it cannot cut a character; only then is the text the same however it is cut.
  require(!well_formed || whole == pieces);
}

}  // namespace
}  // namespace celslm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0: celslm::parse(rest, true); break;
    case 1: celslm::parse(rest, false); break;
    default: celslm::assemble(rest);
  }
  return 0;
}
