#include "core/hash.h"

#include <blake3.h>

namespace celslm {

struct Hasher::State {
  blake3_hasher hasher;
};

Hasher::Hasher() : state_(std::make_unique<State>()) {
  blake3_hasher_init(&state_->hasher);
}
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

Hasher& Hasher::update(std::span<const std::byte> data) {
  blake3_hasher_update(&state_->hasher, data.data(), data.size());
  return *this;
}

Hasher& Hasher::update(std::string_view data) {
  return update(std::as_bytes(std::span(data)));
}

Hasher& Hasher::update_u64(std::uint64_t value) {
  std::array<std::byte, 8> le{};
  for (std::size_t i = 0; i < le.size(); ++i) le[i] = static_cast<std::byte>(value >> (8 * i));
  return update(std::span<const std::byte>(le));
}

Hasher& Hasher::update_field(std::string_view data) {
  return update_u64(data.size()).update(data);
}

Hash256 Hasher::finish() const {
  Hash256 out;
  blake3_hasher_finalize(&state_->hasher, out.bytes.data(), out.bytes.size());
  return out;
}

Hash256 hash_of(std::span<const std::byte> data) {
  return Hasher().update(data).finish();
}
Hash256 hash_of(std::string_view data) {
  return Hasher().update(data).finish();
}

std::string to_hex(std::span<const std::uint8_t> bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const std::uint8_t b : bytes) {
    out.push_back(kDigits[b >> 4]);
    out.push_back(kDigits[b & 15]);
  }
  return out;
}

namespace {

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

Status from_hex(std::string_view hex, std::span<std::uint8_t> out) {
  if (hex.size() != out.size() * 2) {
    return fail(ErrorKind::kInvalid, "expected {} hexadecimal digits, got {}", out.size() * 2, hex.size());
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int high = digit(hex[2 * i]);
    const int low = digit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return fail(ErrorKind::kInvalid, "not a hexadecimal digit at position {}", 2 * i);
    out[i] = static_cast<std::uint8_t>(high << 4 | low);
  }
  return {};
}

std::string Hash256::hex() const {
  return to_hex(bytes);
}

Result<Hash256> Hash256::from_hex(std::string_view hex) {
  Hash256 out;
  CELSLM_CHECK_OK(celslm::from_hex(hex, out.bytes));
  return out;
}

}  // namespace celslm
