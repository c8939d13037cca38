#include "kv/pack/key_chain.h"

#include <algorithm>

#include "core/bytes.h"
#include "core/file.h"
#include "core/hash.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;

// A signed message begins with its type: packs have other ones (pack.cpp).
constexpr std::string_view kDomain = "celslm.key.link.1";
constexpr std::size_t kKeyDigits = 64;
constexpr std::size_t kSignatureDigits = 128;
constexpr std::size_t kTextBytes = 2 * kKeyDigits + kSignatureDigits + 2;

Bytes message(const PublicKey& from, const PublicKey& to) {
  ByteWriter out;
  out.text(std::string(kDomain));
  out.bytes(std::as_bytes(std::span(from.bytes)));
  out.bytes(std::as_bytes(std::span(to.bytes)));
  const ByteView data = out.data();
  return {data.begin(), data.end()};
}

}  // namespace

std::string KeyLink::text() const {
  return from.hex() + " " + to.hex() + " " + to_hex(signature);
}

Result<KeyLink> KeyLink::from_text(std::string_view text) {
  if (text.size() != kTextBytes || text[kKeyDigits] != ' ' || text[2 * kKeyDigits + 1] != ' ')
    return fail(ErrorKind::kInvalid, "a link of keys must be two keys and a signature in hexadecimal digits");
  KeyLink out;
  CELSLM_TRY(out.from, PublicKey::from_hex(text.substr(0, kKeyDigits)));
  CELSLM_TRY(out.to, PublicKey::from_hex(text.substr(kKeyDigits + 1, kKeyDigits)));
  CELSLM_CHECK_OK(from_hex(text.substr(2 * kKeyDigits + 2), out.signature));
  return out;
}

bool KeyLink::good() const {
  return verify(from, message(from, to), signature);
}

KeyLink link_to(const SigningKey& from, const PublicKey& to) {
  return {.from = from.public_key(), .to = to, .signature = from.sign(message(from.public_key(), to))};
}

Result<PublicKey> follow(const PublicKey& trusted, std::span<const KeyLink> links) {
  if (links.size() > kMaxKeyLinks)
    return fail(ErrorKind::kInvalid, "{} links of keys; at most {} are followed", links.size(), kMaxKeyLinks);
  PublicKey out = trusted;
  for (const KeyLink& link : links) {
    if (link.from != out) continue;
    if (!link.good())
      return fail(ErrorKind::kMismatch, "the key {} has not signed that {} follows it", link.from.hex(), link.to.hex());
    out = link.to;
  }
  return out;
}

Result<std::vector<KeyLink>> read_links(const fs::path& path) {
  const auto bytes = read_file(path, kMaxKeyLinks * (kTextBytes + 1));
  if (!bytes && bytes.error().kind == ErrorKind::kNotFound) return std::vector<KeyLink>();
  if (!bytes) return std::unexpected(bytes.error());
  std::vector<KeyLink> out;
  std::string_view text = as_text(*bytes);
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    auto link = KeyLink::from_text(text.substr(0, end));
    if (!link) return wrap(std::move(link).error(), path.string());
    out.push_back(*link);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

// The link is there before the key that it leads to is used: whoever sees the new key can follow it.
Result<KeyLink> rotate_signing_key(const fs::path& folder) {
  const fs::path key_file = folder / kSigningKeyFile;
  if (std::error_code error; !fs::exists(key_file, error))
    return fail(ErrorKind::kNotFound, "{}: no signing key: 'celslm cloud' makes one when it starts", key_file.string());
  CELSLM_TRY(const SigningKey key, SigningKey::load_or_create(key_file));
  const fs::path next_file = folder / (std::string(kSigningKeyFile) + ".next");
  CELSLM_TRY(const SigningKey next, SigningKey::load_or_create(next_file));
  CELSLM_TRY(std::vector<KeyLink> links, read_links(folder / kSigningLinksFile));
  const KeyLink link = link_to(key, next.public_key());
  if (links.empty() || links.back() != link) links.push_back(link);
  if (links.size() > kMaxKeyLinks) links.erase(links.begin());
  std::string text;
  for (const KeyLink& each : links) text += each.text() + "\n";
  CELSLM_CHECK_OK(write_file_atomically(folder / kSigningLinksFile, as_bytes(text)));
  std::error_code error;
  fs::rename(next_file, key_file, error);
  if (error)
    return fail(ErrorKind::kIo, "{}: cannot be put in the old key's place: {}", next_file.string(), error.message());
  return link;
}

}  // namespace celslm
