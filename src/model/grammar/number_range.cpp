#include "model/grammar/number_range.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>
#include <vector>

namespace celslm {
namespace {

constexpr std::string_view kFraction = R"(( "." [0-9]{1,16} )?)";
constexpr std::string_view kPositiveFraction = R"("." "0"{0,15} [1-9] [0-9]{0,15})";
constexpr std::string_view kZeroFraction = R"(( "." "0"{1,16} )?)";

std::string one_of(const std::vector<std::string>& alternatives) {
  if (alternatives.empty()) return {};
  return alternatives.size() == 1 ? alternatives.front() : fmt::format("( {} )", fmt::join(alternatives, " | "));
}

std::string any_digits(std::size_t n) {
  return n == 0 ? "" : n == 1 ? "[0-9]" : fmt::format("[0-9]{{{}}}", n);
}

std::string digit_between(char low, char high) {
  return low == high ? fmt::format("\"{}\"", low) : fmt::format("[{}-{}]", low, high);
}

// Digits of the same number as both bounds, between them.
std::string digits_between(std::string_view low, std::string_view high) {
  const std::size_t n = low.size();
  if (low == std::string(n, '0') && high == std::string(n, '9')) return any_digits(n);
  if (n == 1) return digit_between(low[0], high[0]);
  if (low[0] == high[0]) return fmt::format("\"{}\" {}", low[0], digits_between(low.substr(1), high.substr(1)));
  std::vector<std::string> out;
  char first = low[0];
  char last = high[0];
  if (low.substr(1) != std::string(n - 1, '0'))
    out.push_back(fmt::format("\"{}\" {}", first++, digits_between(low.substr(1), std::string(n - 1, '9'))));
  const bool partly = high.substr(1) != std::string(n - 1, '9');
  if (partly) --last;
  if (first <= last) out.push_back(fmt::format("{} {}", digit_between(first, last), any_digits(n - 1)));
  if (partly) out.push_back(fmt::format("\"{}\" {}", high[0], digits_between(std::string(n - 1, '0'), high.substr(1))));
  return one_of(out);
}

// 0 <= low <= high.
std::string natural_between(std::int64_t low, std::int64_t high) {
  std::vector<std::string> out;
  const std::string last = fmt::to_string(high);
  for (std::string from = fmt::to_string(low); from.size() <= last.size(); from = '1' + std::string(from.size(), '0')) {
    const std::string to = from.size() < last.size() ? std::string(from.size(), '9') : last;
    if (from <= to) out.push_back(digits_between(from, to));
  }
  return one_of(out);
}

// Not negative, with or without a fraction. bounds.low and bounds.high are given.
std::vector<std::string> amounts_between(const NumberBounds& bounds) {
  const std::int64_t low = *bounds.low;
  const std::int64_t high = *bounds.high;
  std::vector<std::string> out;
  std::int64_t from = low;
  if (bounds.above_low && low < high) out.push_back(fmt::format("\"{}\" {}", from++, kPositiveFraction));
  if (from < high) out.push_back(fmt::format("{} {}", natural_between(from, high - 1), kFraction));
  const bool high_is_out = bounds.below_high || (low == high && bounds.above_low);
  if (low <= high && !high_is_out) out.push_back(fmt::format("\"{}\" {}", high, kZeroFraction));
  return out;
}

}  // namespace

std::string integers_between(std::optional<std::int64_t> low, std::optional<std::int64_t> high) {
  const std::int64_t from = low.value_or(-kMostInteger);
  const std::int64_t to = high.value_or(kMostInteger);
  std::vector<std::string> out;
  if (from > to) return {};
  if (from < 0) out.push_back(fmt::format("\"-\" {}", natural_between(std::max<std::int64_t>(-to, 1), -from)));
  if (to >= 0) out.push_back(natural_between(std::max<std::int64_t>(from, 0), to));
  return one_of(out);
}

std::string decimals_between(const NumberBounds& bounds) {
  const std::int64_t from = bounds.low.value_or(-kMostInteger);
  const std::int64_t to = bounds.high.value_or(kMostInteger);
  std::vector<std::string> out;
  if (from < 0 && from <= to) {
    const bool to_zero = to >= 0;
    const NumberBounds amounts{
        .low = to_zero ? 0 : -to, .high = -from, .above_low = to_zero || bounds.below_high, .below_high = bounds.above_low};
    for (const std::string& amount : amounts_between(amounts)) out.push_back("\"-\" " + amount);
  }
  if (to >= 0) {
    const bool from_zero = from < 0;
    const NumberBounds amounts{.low = from_zero ? 0 : from,
                               .high = to,
                               .above_low = !from_zero && bounds.above_low,
                               .below_high = bounds.below_high};
    for (const std::string& amount : amounts_between(amounts)) out.push_back(amount);
  }
  return one_of(out);
}

}  // namespace celslm
