#include "model/grammar/code_points.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

namespace celslm {
namespace {

struct Decoded {
  char32_t c = 0xFFFD;
  std::size_t bytes = 1;
};

Decoded decode(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return {lead, 1};
  const std::size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < bytes) return {};
  char32_t c = lead & (0x7FU >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte & 0xC0U) != 0x80) return {};
    c = c << 6U | (byte & 0x3FU);
  }
  return {c, bytes};
}

// Characters that JSON writes as escapes only, with the letter of the short one.
constexpr std::array<std::pair<char32_t, char>, 7> kShortEscapes{
    {{'"', '"'}, {'\\', '\\'}, {'\b', 'b'}, {'\f', 'f'}, {'\n', 'n'}, {'\r', 'r'}, {'\t', 't'}}};

bool contains(const CodeSet& set, char32_t c) {
  return std::ranges::any_of(set, [&](const CodeRange& range) { return range.first <= c && c <= range.last; });
}

std::string range_text(const CodeRange& range) {
  if (range.first == range.last) return class_character(range.first);
  return class_character(range.first) + '-' + class_character(range.last);
}

}  // namespace

std::u32string code_points_of(std::string_view text) {
  std::u32string out;
  while (!text.empty()) {
    const Decoded next = decode(text);
    out += next.c;
    text.remove_prefix(next.bytes);
  }
  return out;
}

std::string class_character(char32_t c) {
  const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  if (plain) return {static_cast<char>(c)};
  const auto code = static_cast<std::uint32_t>(c);
  return c < 0x80      ? fmt::format("\\x{:02X}", code)
         : c < 0x10000 ? fmt::format("\\u{:04X}", code)
                       : fmt::format("\\U{:08X}", code);
}

CodeSet normalized(CodeSet ranges) {
  std::ranges::sort(ranges, {}, &CodeRange::first);
  CodeSet out;
  for (const CodeRange& range : ranges) {
    if (!out.empty() && range.first <= out.back().last + 1) {
      out.back().last = std::max(out.back().last, range.last);
    } else {
      out.push_back(range);
    }
  }
  return out;
}

CodeSet complement(const CodeSet& set) {
  CodeSet out;
  char32_t next = 0;
  for (const CodeRange& range : set) {
    if (range.first > next) out.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kLastCodePoint) out.push_back({next, kLastCodePoint});
  return out;
}

std::string json_character(const CodeSet& set) {
  std::vector<std::string> out;
  std::string escapes;
  for (const auto& [c, letter] : kShortEscapes) {
    if (contains(set, c)) escapes += class_character(static_cast<char32_t>(letter));
  }
  // What may be written plainly: the set without quotation mark, backslash and what comes before the space.
  CodeSet not_plain = complement(set);
  not_plain.insert(not_plain.end(), {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}});
  std::string plain;
  for (const CodeRange& range : complement(normalized(not_plain))) plain += range_text(range);
  if (!plain.empty()) out.push_back(fmt::format("[{}]", plain));
  if (!escapes.empty()) out.push_back(fmt::format(R"("\\" [{}])", escapes));
  if (out.empty()) return {};
  return out.size() == 1 ? out.front() : fmt::format("( {} )", fmt::join(out, " | "));
}

}  // namespace celslm
