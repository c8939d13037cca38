#include "cli/audit/secrets.h"

#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>
#include <array>
#include <span>

#include "cli/audit/sent_request.h"
#include "core/hash.h"

namespace celslm {
namespace {

constexpr std::string_view kMarkLetters = "GHJKLMNPQRSTVWXYZ";
constexpr std::size_t kMarkLength = 16;
constexpr std::size_t kHexPrefix = 12;  // 48 bits: not met by chance in some hundred requests

std::span<const std::uint8_t> octets(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

std::string base64(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  unsigned bits = 0;
  int n_bits = 0;
  for (const std::uint8_t byte : octets(text)) {
    bits = bits << 8 | byte;
    for (n_bits += 8; n_bits >= 6; n_bits -= 6) out += kDigits[bits >> (n_bits - 6) & 63];
  }
  return out;  // without what the next byte would change
}

// The digits that do not depend on what is before and behind the text, when `before` bytes come before it.
std::string base64_inside(std::string_view text, std::size_t before) {
  const std::string digits = base64(std::string(before, '\0') + std::string(text));
  return digits.substr((before * 8 + 5) / 6);
}

std::string url_safe(std::string digits) {
  for (char& c : digits) c = c == '+' ? '-' : c == '/' ? '_' : c;
  return digits;
}

std::string escaped(std::string_view text, std::string_view before_each) {
  std::string out;
  for (const std::uint8_t byte : octets(text)) out += fmt::format("{}{:02x}", before_each, byte);
  return out;
}

struct Digest {
  const char* name;
  std::string bytes;
};

std::string as_string(std::span<const std::uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::vector<Digest> digests_of(std::string_view text) {
  const auto in = octets(text);
  std::array<std::uint8_t, crypto_generichash_BYTES> blake2{};
  std::array<std::uint8_t, crypto_hash_sha256_BYTES> sha256{};
  std::array<std::uint8_t, crypto_hash_sha512_BYTES> sha512{};
  crypto_generichash(blake2.data(), blake2.size(), in.data(), in.size(), nullptr, 0);
  crypto_hash_sha256(sha256.data(), in.data(), in.size());
  crypto_hash_sha512(sha512.data(), in.data(), in.size());
  return {{"BLAKE3", as_string(hash_of(text).bytes)},
          {"BLAKE2b", as_string(blake2)},
          {"SHA-256", as_string(sha256)},
          {"SHA-512", as_string(sha512)}};
}

}  // namespace

std::string random_mark(std::mt19937_64& random) {
  std::string out;
  while (out.size() < kMarkLength) out += kMarkLetters[random() % kMarkLetters.size()];
  return out;
}

void Secrets::add(const std::string& what, std::string bytes, bool any_case) {
  if (bytes.empty()) return;
  forms_.push_back({what, any_case ? lower_case(bytes) : std::move(bytes), any_case});
}

void Secrets::add_mark(const std::string& name, std::string_view mark) {
  add(name, std::string(mark), true);
  add(name + ", reversed", std::string(mark.rbegin(), mark.rend()), true);
  const std::size_t half = mark.size() / 2;
  add(name + ", its first half", std::string(mark.substr(0, half)), true);
  add(name + ", its second half", std::string(mark.substr(half)), true);
  add(name + ", in hex", escaped(mark, ""), true);
  add(name + ", percent-encoded", escaped(mark, "%"), true);
  add(name + ", as JSON escapes", escaped(mark, "\\u00"), true);
  for (std::size_t before = 0; before < 3; ++before) {
    const std::string digits = base64_inside(mark, before);
    add(name + ", in base64", digits);
    if (url_safe(digits) != digits) add(name + ", in base64", url_safe(digits));
  }
  add_text(name, mark);
}

void Secrets::add_text(const std::string& name, std::string_view text) {
  for (const Digest& digest : digests_of(text)) {
    const std::string what = fmt::format("the {} hash of {}", digest.name, name);
    add(what, digest.bytes);
    add(what, escaped(digest.bytes, "").substr(0, kHexPrefix), true);
    add(what + ", in base64", base64(digest.bytes).substr(0, kHexPrefix));
    add(what + ", in base64", url_safe(base64(digest.bytes)).substr(0, kHexPrefix));
  }
}

std::vector<std::string> Secrets::found_in(std::string_view sent) const {
  const std::string sent_lower = lower_case(sent);
  std::vector<std::string> out;
  for (const Form& form : forms_) {
    const bool found = form.any_case ? sent_lower.contains(form.bytes) : sent.contains(form.bytes);
    if (found && std::ranges::find(out, form.what) == out.end()) out.push_back(form.what);
  }
  return out;
}

}  // namespace celslm
