// Where the rows of a studied pack stand: a block for each chunk of a layer, exact whatever the codec.
#pragma once

#include <cstdint>
#include <vector>

#include "core/bytes.h"
#include "core/result.h"
#include "kv/pack/verified_block.h"

namespace celslm {

// What K and V of a studied row need beside them. Both are [n_kv_heads][rows of the chunk].
struct RowPlaces {
  std::vector<std::int32_t> positions;  // 0 <= position < n_tokens
  std::vector<float> log_mass;          // finite, within +-kMaxLogMass

  RowPlaces() = default;
  RowPlaces(std::size_t n_kv_heads, std::size_t n_rows) : positions(n_kv_heads * n_rows), log_mass(n_kv_heads * n_rows) {}
  std::size_t n_rows(std::size_t n_kv_heads) const { return positions.size() / n_kv_heads; }
  // Rows [first, first + n) of each head.
  RowPlaces rows(std::size_t first, std::size_t n, std::size_t n_kv_heads) const;
  // `some` becomes the rows from `first` on.
  void put(std::size_t first, const RowPlaces& some, std::size_t n_kv_heads);
  bool operator==(const RowPlaces&) const = default;
};

inline constexpr std::size_t kPlaceBytes = 4 + 4;  // of one row of one KV head

Bytes encode_places(const RowPlaces& places);
// kInvalid, naming the block and what is wrong.
Result<RowPlaces> decode_places(const PackIdentity& identity, const VerifiedBlock& block);

}  // namespace celslm
