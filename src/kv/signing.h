// Ed25519 signatures of packs, through libsodium.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "core/bytes.h"
#include "core/result.h"

namespace celslm {

using Signature = std::array<std::uint8_t, 64>;

struct PublicKey {
  std::array<std::uint8_t, 32> bytes{};
  bool operator==(const PublicKey&) const = default;
  std::string hex() const;
  static Result<PublicKey> from_hex(std::string_view hex);
};

// Thread-safe after construction. The secret is wiped on destruction.
class SigningKey {
 public:
  static Result<SigningKey> generate();
  // Reads the key, or makes one with owner-only permissions. kIo, kInvalid with the file's name.
  static Result<SigningKey> load_or_create(const std::filesystem::path& path);
  ~SigningKey();
  SigningKey(SigningKey&&) noexcept;
  SigningKey& operator=(SigningKey&&) noexcept;

  PublicKey public_key() const;
  Signature sign(ByteView message) const;

 private:
  struct Secret;
  explicit SigningKey(std::unique_ptr<Secret> secret);
  std::unique_ptr<Secret> secret_;
};

bool verify(const PublicKey& key, ByteView message, const Signature& signature);

}  // namespace celslm
