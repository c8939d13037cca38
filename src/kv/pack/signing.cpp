#include "kv/pack/signing.h"

#include <sodium.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "core/file.h"
#include "core/hash.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;

// A key file consists of this line and a line with the seed as 64 hexadecimal digits.
constexpr std::string_view kKeyFileTitle = "celslm ed25519 secret key 1\n";
constexpr std::size_t kKeyFileBytes = kKeyFileTitle.size() + 2 * crypto_sign_SEEDBYTES + 1;

template <typename T>
class Wiped {
 public:
  Wiped() = default;
  explicit Wiped(T initial) : value(std::move(initial)) {}
  ~Wiped() { sodium_memzero(value.data(), value.size()); }
  Wiped(const Wiped&) = delete;
  Wiped& operator=(const Wiped&) = delete;
  T value{};
};

using Seed = Wiped<std::array<std::uint8_t, crypto_sign_SEEDBYTES>>;

Status start_sodium() {
  if (sodium_init() >= 0) return {};
  return fail(ErrorKind::kIo, "libsodium cannot be initialized: the system provides no random numbers");
}

Status read_seed(const fs::path& path, Seed& seed) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) {
    const ErrorKind kind = errno == ENOENT ? ErrorKind::kNotFound : ErrorKind::kIo;
    return fail(kind, "{}: {}", path.string(), std::strerror(errno));
  }
  if ((info.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    return fail(ErrorKind::kInvalid, "{}: other users may read this secret key; replace it, or run: chmod 600 {}",
                path.string(), path.string());
  }
  CELSLM_TRY(Bytes content, read_file(path, 4096));
  const Wiped<Bytes> wiped(std::move(content));
  const std::string_view text = as_text(wiped.value);
  if (text.size() != kKeyFileBytes || !text.starts_with(kKeyFileTitle) || text.back() != '\n' ||
      !from_hex(text.substr(kKeyFileTitle.size(), 2 * seed.value.size()), seed.value)) {
    return fail(ErrorKind::kInvalid, "{}: not a celslm secret key; to create a new one, move the file away", path.string());
  }
  return {};
}

// False if the file exists already.
Result<bool> write_new_seed(const fs::path& path) {
  Seed seed;
  randombytes_buf(seed.value.data(), seed.value.size());
  const Wiped<std::string> digits(to_hex(seed.value));
  Wiped<std::string> text;
  text.value.reserve(kKeyFileBytes);  // a reallocation would leave an unwiped copy behind
  text.value.append(kKeyFileTitle).append(digits.value).append("\n");
  return write_new_private_file(path, as_bytes(text.value));
}

}  // namespace

struct SigningKey::Secret {
  std::array<std::uint8_t, crypto_sign_SECRETKEYBYTES> key{};
  PublicKey public_key;

  explicit Secret(const Seed& seed) {
    sodium_mlock(key.data(), key.size());  // refused where locked memory is limited: then the key may be swapped out
    crypto_sign_seed_keypair(public_key.bytes.data(), key.data(), seed.value.data());
  }
  ~Secret() { sodium_munlock(key.data(), key.size()); }  // wipes
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
};

std::string PublicKey::hex() const {
  return to_hex(bytes);
}

Result<PublicKey> PublicKey::from_hex(std::string_view hex) {
  PublicKey out;
  if (auto status = celslm::from_hex(hex, out.bytes); !status) return wrap(std::move(status).error(), "public key");
  return out;
}

SigningKey::SigningKey(std::unique_ptr<Secret> secret) : secret_(std::move(secret)) {}
SigningKey::~SigningKey() = default;
SigningKey::SigningKey(SigningKey&&) noexcept = default;
SigningKey& SigningKey::operator=(SigningKey&&) noexcept = default;

Result<SigningKey> SigningKey::generate() {
  CELSLM_CHECK_OK(start_sodium());
  Seed seed;
  randombytes_buf(seed.value.data(), seed.value.size());
  return SigningKey(std::make_unique<Secret>(seed));
}

Result<SigningKey> SigningKey::load_or_create(const fs::path& path) {
  CELSLM_CHECK_OK(start_sodium());
  Seed seed;
  auto status = read_seed(path, seed);
  if (!status && status.error().kind == ErrorKind::kNotFound) {
    CELSLM_TRY([[maybe_unused]] const bool ours, write_new_seed(path));
    status = read_seed(path, seed);  // the file that exists now, by whichever process
  }
  if (!status) return std::unexpected(std::move(status).error());
  return SigningKey(std::make_unique<Secret>(seed));
}

PublicKey SigningKey::public_key() const {
  return secret_->public_key;
}

Signature SigningKey::sign(ByteView message) const {
  Signature out{};
  crypto_sign_detached(out.data(), nullptr, reinterpret_cast<const unsigned char*>(message.data()), message.size(),
                       secret_->key.data());
  return out;
}

bool verify(const PublicKey& key, ByteView message, const Signature& signature) {
  return start_sodium() &&
         crypto_sign_verify_detached(signature.data(), reinterpret_cast<const unsigned char*>(message.data()),
                                     message.size(), key.bytes.data()) == 0;
}

}  // namespace celslm
