// "Range: bytes=…" headers.
#include <algorithm>
#include <cctype>
#include <charconv>

#include "core/text.h"
#include "net/http_types.h"

namespace celslm {
namespace {

// Digits only (from_chars on an unsigned type takes no sign), up to 2^64 - 1.
std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool is_bytes(std::string_view unit) {
  return std::ranges::equal(unit, std::string_view("bytes"), {}, [](unsigned char c) { return std::tolower(c); });
}

std::string_view trim(std::string_view text) {
  return trimmed(text, " \t");
}

}  // namespace

Result<std::optional<ByteRange>> parse_range(std::string_view header, std::uint64_t size) {
  header = trim(header);
  if (header.empty()) return std::nullopt;
  const auto malformed = [&] { return fail(ErrorKind::kInvalid, "malformed range: expected bytes=FIRST-LAST"); };
  const std::size_t equals = header.find('=');
  if (equals == std::string_view::npos) return malformed();
  if (!is_bytes(trim(header.substr(0, equals)))) return std::nullopt;
  const std::string_view spec = trim(header.substr(equals + 1));
  // Several ranges would need a multipart response, which our clients do not use, and overlapping ranges are a known
  // amplification attack.
  if (spec.contains(','))
    return fail(ErrorKind::kInvalid, "several ranges in one request are not supported: request one at a time");
  const std::size_t dash = spec.find('-');
  if (dash == std::string_view::npos) return malformed();
  const std::string_view first_text = spec.substr(0, dash);
  const std::string_view last_text = spec.substr(dash + 1);
  const auto first = parse_number(first_text);
  const auto last = parse_number(last_text);
  if ((!first && !first_text.empty()) || (!last && !last_text.empty()) || (!first && !last)) return malformed();
  if (!first) {  // "-n": the last n bytes
    if (*last == 0 || size == 0) return fail(ErrorKind::kInvalid, "the range is empty");
    return ByteRange{.first = size - std::min(*last, size), .end = size};
  }
  if (last && *last < *first) return malformed();
  if (*first >= size) return fail(ErrorKind::kInvalid, "the range starts at byte {} of a body of {} bytes", *first, size);
  return ByteRange{.first = *first, .end = last ? std::min(*last, size - 1) + 1 : size};
}

}  // namespace celslm
