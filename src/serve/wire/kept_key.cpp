#include "serve/wire/kept_key.h"

#include <algorithm>
#include <span>

#include "core/file.h"

namespace celslm {
namespace {

constexpr std::uint64_t kMaxFileBytes = 32U << 10;

}  // namespace

Result<KeptKey> read_kept_key(const std::filesystem::path& path) {
  const auto bytes = read_file(path, kMaxFileBytes);
  if (!bytes) return fail(ErrorKind::kNotFound, "{}", bytes.error().message);
  std::string_view text = as_text(*bytes);
  const auto next_line = [&] {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return line;
  };
  KeptKey out;
  CELSLM_TRY(out.key, PublicKey::from_hex(next_line()));
  while (!text.empty()) {
    CELSLM_TRY(out.links.emplace_back(), KeyLink::from_text(next_line()));
  }
  return out;
}

Status write_kept_key(const std::filesystem::path& path, const KeptKey& kept) {
  std::string text = kept.key.hex() + "\n";
  const std::size_t first = kept.links.size() - std::min(kept.links.size(), kMaxKeptLinks);
  for (const KeyLink& link : std::span(kept.links).subspan(first)) text += link.text() + "\n";
  return write_file_atomically(path, as_bytes(text));
}

PublicKey led_on(const PublicKey& named, const KeptKey& kept) {
  PublicKey out = named;
  for (const KeyLink& link : kept.links) {
    if (link.from == out && link.good()) out = link.to;
  }
  return out;
}

}  // namespace celslm
