// How one block's values become bytes. docs/kv-pack-format.md, "Blocks", defines every bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "core/bytes.h"
#include "core/result.h"
#include "model/kv/kv_segment.h"

namespace celslm {

enum class CodecId : std::uint16_t { kF16 = 1, kBf16 = 2, kQ8 = 3, kT4 = 4, kT3 = 5, kT2 = 6, kF16z = 7, kOpaque = 8 };

// Tokens of a block of the codecs that keep values apart.
inline constexpr int kBlockTokens = 256;

// No codec's business: kPlaces, where a studied pack's rows stand (kv/pack/places.h); kState, a part of a state whose inside
// is another library's; kLayerState, a recurrent layer's (kv/pack/layer_state.h).
enum class BlockKind : std::uint8_t { kKey = 0, kValue = 1, kPlaces = 2, kState = 3, kLayerState = 4 };

struct BlockShape {
  BlockKind kind = BlockKind::kKey;
  int n_tokens = 0;
  int n_kv_heads = 0;
  int head_dim = 0;

  std::size_t rows() const { return static_cast<std::size_t>(n_tokens) * static_cast<std::size_t>(n_kv_heads); }
  std::size_t values() const { return rows() * static_cast<std::size_t>(head_dim); }
};

// How many bytes something may have.
struct ByteBounds {
  std::uint64_t least = 0;
  std::uint64_t most = 0;
  bool contain(std::uint64_t bytes) const { return least <= bytes && bytes <= most; }
  bool operator==(const ByteBounds&) const = default;
};

// How much an error in each channel matters beside the others: [n_kv_heads * head_dim], finite and not negative. Empty: all
// alike. Approximate codecs spend their bits accordingly; what decodes the block need not know.
using ChannelWeights = std::span<const float>;

// Stateless; thread-safe. Same values and weights, same bytes, on every CPU. The next codec is written by implementing this
// and adding it to the table in codec.cpp; the conformance test then runs on it, and the golden test asks for its bytes.
class Codec {
 public:
  virtual ~Codec() = default;
  virtual CodecId id() const = 0;
  virtual std::string_view name() const = 0;
  // The resident type whose rounding this codec reproduces bit by bit, if any; approximate codecs have none.
  virtual std::optional<KvType> exact_for() const = 0;
  // Tokens of a full block; the last block of a context is shorter.
  virtual int block_tokens() const { return kBlockTokens; }
  // Bytes that an encoded block of this shape may have: one number for codecs of fixed length.
  virtual ByteBounds encoded_bytes(const BlockShape& shape) const = 0;
  // values: [n_tokens][n_kv_heads][head_dim]. kInvalid if any is NaN or infinite, or does not fit the codec's range,
  // or if there are weights, but not one for each channel.
  virtual Result<Bytes> encode(const BlockShape& shape, std::span<const float> values, ChannelWeights weights) const = 0;
  Result<Bytes> encode(const BlockShape& shape, std::span<const float> values) const { return encode(shape, values, {}); }
  // kInvalid for bytes that are no block of this shape; `values` is then unspecified. Never reads outside `bytes`, never
  // yields NaN or infinity.
  virtual Status decode(const BlockShape& shape, ByteView bytes, std::span<float> values) const = 0;
};

// Of states that another library wrote (docs/foreign-models.md): its blocks are bytes, and it neither encodes nor decodes
// values (kInvalid).
const Codec& opaque_codec();
inline constexpr int kStateBlockTokens = 16;  // a state has as many parts as its tokens have stretches of this length

Result<const Codec*> find_codec(CodecId id);             // opaque_codec(), too
Result<const Codec*> find_codec(std::string_view name);  // the same; the error lists the names of all_codecs()
std::span<const Codec* const> all_codecs();              // that encode values

}  // namespace celslm
