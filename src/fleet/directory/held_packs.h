// Which packs a node holds, complete, for others to read.
#pragma once

#include <compare>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/hash.h"
#include "core/result.h"

namespace celslm {

inline constexpr std::size_t kMaxHeldPacks = 256;            // that a node tells of: those that it used last
inline constexpr std::size_t kMaxHeldListBytes = 64U << 10;  // of a list as JSON

// KV of the context with this handle, for this model, in some codec: enough to know whom to ask. An answer that a node has
// not what it announced costs the asking node a round trip, and nothing else.
struct HeldPack {
  Hash256 context;  // handle
  Hash256 model;
  auto operator<=>(const HeldPack&) const = default;
};

// Sorted.
using HeldPacks = std::vector<HeldPack>;

// At most kMaxHeldPacks, from the beginning of `packs`, in any order.
std::string to_json_text(std::span<const HeldPack> packs);
// kInvalid for what is not as documented (docs/fleet.md).
Result<HeldPacks> parse_held_packs(std::string_view text);
// What a record names a list by: who has read a list of this revision need not read it again.
std::string held_revision(std::string_view text);

bool holds(const HeldPacks& packs, const HeldPack& wanted);

}  // namespace celslm
