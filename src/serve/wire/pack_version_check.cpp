#include "serve/wire/pack_version_check.h"

#include "kv/pack/pack.h"

namespace celslm {

void PackVersionCheck::learned(std::uint16_t version, const std::string& url) {
  const bool was_readable = version_.exchange(version) <= kPackVersion;
  const Status status = check(url);
  if (!status && was_readable) log_->warn("{}; until then contexts are computed here", status.error().message);
  if (status && !was_readable) log_->info("{} writes packs of version {}, which can be read here", url, version);
}

Status PackVersionCheck::check(const std::string& url) const {
  const std::uint16_t version = version_;
  if (version <= kPackVersion) return {};
  return fail(ErrorKind::kInvalid, "{} writes packs of version {}; this program reads versions 1 to {}: update this edge",
              url, version, kPackVersion);
}

}  // namespace celslm
