#include "serve/load/disk_source.h"

namespace celslm {

SourceTraits DiskSource::traits() const {
  SourceTraits out{.max_transfers = 1, .is_metered = false};
  // Until it is measured: any disk is so fast that computing beside it is not worth it.
  out.estimate.rate_bytes_per_s.add(5e8);
  out.estimate.latency_s.add(1e-3);
  return out;
}

Status DiskSource::open(const Announce& announce, const EarlyRead* early, std::stop_token /*stop*/) {
  announce(0, pack_.header.blocks);
  if (early) early->ended({});  // there is no round trip to save
  return {};
}

Status DiskSource::read(std::span<const BlockEntry> entries, const Reader& reader, std::stop_token stop) {
  for (const BlockEntry& entry : entries) {
    CELSLM_TRY(Bytes bytes, pack_.file->read(pack_.region_offset + entry.offset, entry.bytes));
    reader.arrived(entry.bytes);
    if (stop.stop_requested() || !reader.block(std::move(bytes)))
      return fail(ErrorKind::kCancelled, "the reading was cancelled");
  }
  return {};
}

Result<Bytes> DiskSource::header(std::stop_token /*stop*/) {
  return pack_.file->read(0, pack_.region_offset);
}

}  // namespace celslm
