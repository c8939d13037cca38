#include "core/printable.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/utf8.h"

namespace celslm {
namespace {

struct Span {
  std::uint32_t first = 0;
  std::uint32_t last = 0;
};

// Unicode's characters of the categories Cc, Cf (those that change how others look), Zl and Zp.
constexpr std::array kUnprintable{
    Span{0x00, 0x1F},       Span{0x7F, 0x9F},       Span{0xAD, 0xAD},      Span{0x61C, 0x61C},   Span{0x180E, 0x180E},
    Span{0x200B, 0x200F},   Span{0x2028, 0x202E},   Span{0x2060, 0x206F},  Span{0xFEFF, 0xFEFF}, Span{0xFFF9, 0xFFFB},
    Span{0x1BCA0, 0x1BCA3}, Span{0x1D173, 0x1D17A}, Span{0xE0000, 0xE0FFF}};

constexpr std::string_view kCut = "…";

// The character that begins a well-formed text which is not empty, and its length.
struct Character {
  std::uint32_t code = 0;
  std::size_t bytes = 1;
};
Character first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<std::uint8_t>(text[i])); };
  const std::uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t bytes = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  std::uint32_t code = lead & (0xFFU >> (bytes + 1));
  for (std::size_t i = 1; i < bytes; ++i) code = code << 6U | (byte(i) & 0x3FU);
  return {code, bytes};
}

std::string escaped(std::uint32_t code) {
  if (code == '\n') return "\\n";
  if (code == '\r') return "\\r";
  if (code == '\t') return "\\t";
  return code < 0x100 ? fmt::format("\\x{:02x}", code) : fmt::format("\\u{{{:x}}}", code);
}

bool is_printable(std::uint32_t code) {
  return std::ranges::none_of(kUnprintable, [&](const Span& span) { return code >= span.first && code <= span.last; });
}

}  // namespace

std::string printable(std::string_view text, std::size_t max_bytes) {
  // Each byte of the text gives one of the result at least, but for a character whose beginning alone is here, at the cut.
  const std::string well = repaired_utf8(text.substr(0, max_bytes + 4));
  std::string out;
  std::size_t room_for_cut = 0;  // how much of `out` may stay if "…" follows
  for (std::string_view rest = well; !rest.empty();) {
    const Character character = first_character(rest);
    out += is_printable(character.code) ? std::string(rest.substr(0, character.bytes)) : escaped(character.code);
    rest.remove_prefix(character.bytes);
    if (out.size() + kCut.size() <= max_bytes) room_for_cut = out.size();
    if (out.size() > max_bytes) return out.substr(0, room_for_cut).append(kCut);
  }
  return out;
}

}  // namespace celslm
