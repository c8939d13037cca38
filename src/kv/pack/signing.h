// Ed25519 signatures of packs (RFC 8032), by libsodium.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "core/bytes.h"
#include "core/result.h"

namespace celslm {

using Signature = std::array<std::uint8_t, 64>;

struct PublicKey {
  std::array<std::uint8_t, 32> bytes{};
  bool operator==(const PublicKey&) const = default;
  std::string hex() const;
  static Result<PublicKey> from_hex(std::string_view hex);  // kInvalid unless it is 64 hexadecimal digits
};

// Owns the secret: locked in memory if the system allows it, wiped on destruction. Movable; the const functions are
// thread-safe.
class SigningKey {
 public:
  static Result<SigningKey> generate();
  // Reads the key, or creates one that only the owner can access; of processes that start at the same time all get the same
  // key. kIo; kInvalid, with the file's name, if the file is not a key or others may read it.
  static Result<SigningKey> load_or_create(const std::filesystem::path& path);
  ~SigningKey();
  SigningKey(SigningKey&&) noexcept;
  SigningKey& operator=(SigningKey&&) noexcept;

  PublicKey public_key() const;
  Signature sign(ByteView message) const;  // deterministic

 private:
  struct Secret;
  explicit SigningKey(std::unique_ptr<Secret> secret);
  std::unique_ptr<Secret> secret_;  // null only after being moved from
};

bool verify(const PublicKey& key, ByteView message, const Signature& signature);

}  // namespace celslm
