// Encoding of a map's records, shared by the reader and writer of complete maps and of separate network files. Internal to
// align/map.
#pragma once

#include "align/map/kv_map.h"

namespace celslm {

inline constexpr std::size_t kMapHashBytes = 32;  // at the end of the file

Hash256 map_hash(ByteView contents);  // of everything before the hash

// Requires that check_map() holds for the map that `net` belongs to. kInvalid for values that `precision` cannot represent.
Status write_net(const ResidualNet& net, MapPrecision precision, ByteWriter& out);
// Checks each size against the limits and the rest of the input before it allocates. kInvalid, naming what is wrong.
Result<ResidualNet> read_net(ByteReader& in, MapPrecision precision, const MapModel& source, const MapModel& target);

}  // namespace celslm
