// Ed25519 signatures of packs, through libsodium.
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
  static Result<PublicKey> from_hex(std::string_view hex);
};

// Thread-safe after construction. The secret is kept out of swap where the system allows it, and wiped on destruction.
class SigningKey {
 public:
  static Result<SigningKey> generate();
  // Reads the key, or makes one with owner-only permissions; processes that start at the same time end up with the same one.
  // kIo, or kInvalid with the file's name for a file that is no key or that others may read.
  static Result<SigningKey> load_or_create(const std::filesystem::path& path);
  ~SigningKey();
  SigningKey(SigningKey&&) noexcept;
  SigningKey& operator=(SigningKey&&) noexcept;

  PublicKey public_key() const;
  Signature sign(ByteView message) const;  // the same message always gives the same signature

 private:
  struct Secret;
  explicit SigningKey(std::unique_ptr<Secret> secret);
  std::unique_ptr<Secret> secret_;  // null only after being moved from
};

bool verify(const PublicKey& key, ByteView message, const Signature& signature);

}  // namespace celslm
