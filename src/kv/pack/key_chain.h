// How one signing key of a cloud follows another: each vouches for the next.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "kv/pack/signing.h"

namespace celslm {

// A chain without end would cost whoever follows it a signature for each link, and its file.
inline constexpr std::size_t kMaxKeyLinks = 16;

// `from` has signed that `to` takes its place.
struct KeyLink {
  PublicKey from;
  PublicKey to;
  Signature signature{};
  bool operator==(const KeyLink&) const = default;

  std::string text() const;                                 // "FROM TO SIGNATURE", in hexadecimal digits
  static Result<KeyLink> from_text(std::string_view text);  // kInvalid
  bool good() const;                                        // whether `from` has signed it
};
KeyLink link_to(const SigningKey& from, const PublicKey& to);

// The key to trust by whoever trusts `trusted`: where the links lead that begin with it; `trusted` itself if none does.
// kMismatch if one of them is not signed by its key, kInvalid for more than kMaxKeyLinks.
Result<PublicKey> follow(const PublicKey& trusted, std::span<const KeyLink> links);

// A file of links, one on each line, the oldest first; none if there is no file. kInvalid, with the file's name.
Result<std::vector<KeyLink>> read_links(const std::filesystem::path& path);

// Replaces the signing key in `folder` ("signing.key") by a new one that the old one vouches for, and adds the link to
// "signing.links" there, which keeps the last kMaxKeyLinks. Ended at any point, it can be begun again. The old key is gone
// afterwards. kNotFound if there is no key; else errors of SigningKey and of files.
Result<KeyLink> rotate_signing_key(const std::filesystem::path& folder);
inline constexpr const char* kSigningKeyFile = "signing.key";
inline constexpr const char* kSigningLinksFile = "signing.links";

}  // namespace celslm
