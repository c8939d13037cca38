#include "serve/load/disk_source.h"

namespace celslm {

SourceTraits DiskSource::traits() const {
  SourceTraits out{.max_transfers = 1, .is_metered = false};
  // Until it is measured: any disk is faster than to compute beside it would be worth.
  out.estimate.rate_bytes_per_s.add(5e8);
  out.estimate.latency_s.add(1e-3);
  return out;
}

Status DiskSource::open(const Announce& announce, const Opening* opening, std::stop_token /*stop*/) {
  announce(0, pack_.header.blocks);
  if (opening) opening->ended({});  // there is nothing to be gained here
  return {};
}

Status DiskSource::read(std::span<const BlockEntry> entries, const Reader& reader, std::stop_token stop) {
  for (const BlockEntry& entry : entries) {
    reader.arrived(entry.bytes);
    const bool go_on =
        !stop.stop_requested() && reader.block(pack_.file->bytes().subspan(pack_.region_offset + entry.offset, entry.bytes));
    if (!go_on) return fail(ErrorKind::kCancelled, "reading was stopped");
  }
  return {};
}

Result<Bytes> DiskSource::header(std::stop_token /*stop*/) {
  const ByteView bytes = pack_.file->bytes().first(pack_.region_offset);
  return Bytes(bytes.begin(), bytes.end());
}

}  // namespace celslm
