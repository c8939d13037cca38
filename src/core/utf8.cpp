#include "core/utf8.h"

#include <algorithm>
#include <cstdint>

namespace celslm {
namespace {

enum class Form { kWell, kIll, kIncomplete };

struct Unit {
  std::size_t bytes = 0;
  Form form = Form::kWell;
};

// What a lead byte demands: how many bytes follow, and the range of the first of them (Unicode table 3-7).
struct Lead {
  int following = -1;  // -1: no lead byte
  std::uint8_t low = 0x80;
  std::uint8_t high = 0xBF;
};

Lead lead_of(std::uint8_t byte) {
  if (byte < 0x80) return {.following = 0};
  if (byte < 0xC2) return {};  // a continuation byte, or an overlong form
  if (byte < 0xE0) return {.following = 1};
  if (byte == 0xE0) return {.following = 2, .low = 0xA0};
  if (byte == 0xED) return {.following = 2, .high = 0x9F};  // no surrogates
  if (byte < 0xF0) return {.following = 2};
  if (byte == 0xF0) return {.following = 3, .low = 0x90};
  if (byte < 0xF4) return {.following = 3};
  if (byte == 0xF4) return {.following = 3, .high = 0x8F};  // nothing over U+10FFFF
  return {};
}

// The character, or the maximal ill-formed or incomplete part, at the beginning of a text that is not empty.
Unit first_unit(std::string_view text) {
  Lead lead = lead_of(static_cast<std::uint8_t>(text[0]));
  if (lead.following < 0) return {.bytes = 1, .form = Form::kIll};
  const std::size_t size = static_cast<std::size_t>(lead.following) + 1;
  for (std::size_t i = 1; i < size; ++i) {
    if (i == text.size()) return {.bytes = i, .form = Form::kIncomplete};
    const auto byte = static_cast<std::uint8_t>(text[i]);
    if (byte < lead.low || byte > lead.high) return {.bytes = i, .form = Form::kIll};
    lead = {};
  }
  return {.bytes = size};
}

template <typename Visit>
void for_each_unit(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const Unit unit = first_unit(text);
    visit(text.substr(0, unit.bytes), unit.form);
    text.remove_prefix(unit.bytes);
  }
}

}  // namespace

bool is_utf8(std::string_view text) {
  bool well = true;
  for_each_unit(text, [&](std::string_view, Form form) { well = well && form == Form::kWell; });
  return well;
}

std::size_t incomplete_utf8_tail(std::string_view text) {
  // Only the last three bytes can begin a character that is not yet complete.
  for (std::size_t n = 1; n <= 3 && n <= text.size(); ++n) {
    const Unit unit = first_unit(text.substr(text.size() - n));
    if (unit.form == Form::kIncomplete && unit.bytes == n) return n;
  }
  return 0;
}

std::string repaired_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for_each_unit(text, [&](std::string_view unit, Form form) { out += form == Form::kWell ? unit : "\xEF\xBF\xBD"; });
  return out;
}

std::size_t utf8_length(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<std::uint8_t>(c) & 0xC0U) != 0x80; }));
}

}  // namespace celslm
