// The bytes of a map's records, shared by what reads and writes whole files and lone networks. Internal to align.
#pragma once

#include "align/map/kv_map.h"

namespace celslm {

inline constexpr std::size_t kMapHashBytes = 32;  // at the end of the file

Hash256 map_hash(ByteView contents);  // of everything before the hash

// Sizes are those of check_map(); values that `precision` cannot hold are kInvalid.
Status write_net(const ResidualNet& net, MapPrecision precision, ByteWriter& out);
// Checks each size against the limits and against what is left of the file before it allocates.
Result<ResidualNet> read_net(ByteReader& in, MapPrecision precision, const MapModel& source, const MapModel& target);

}  // namespace celslm
