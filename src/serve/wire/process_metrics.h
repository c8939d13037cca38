// Metrics that cloud and edge share: what they are, and the room on their disk.
#pragma once

#include <cstdint>
#include <optional>

#include "serve/wire/metrics.h"

namespace celslm {

// celslm_build_info, whose labels are the program's version and that of the packs it writes.
void show_build(Metrics& metrics);
// celslm_disk_free_bytes, where the packs are; nothing changes without a value.
void show_free_disk(Metrics& metrics, std::optional<std::uint64_t> bytes);

}  // namespace celslm
