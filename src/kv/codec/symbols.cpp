#include "kv/codec/symbols.h"

#include <zstd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace celslm {
namespace {

// How the numbers of a row lie in bytes. The first of several in a byte is its lowest digit.
enum class Packing : std::uint8_t {
  kZeros = 0,  // nothing: all are 0
  kFives = 1,  // -1..1, five digits of base 3
  kPairs = 2,  // -7..7, two digits of base 15
  kBytes = 3,  // two's complement
  kWords = 4,  // all low bytes, then all high bytes
};
constexpr int kPackings = 5;
constexpr int kOctaves = 16;

Packing packing_of(RowClass row_class) {
  return static_cast<Packing>(row_class / kOctaves);
}

std::size_t packed_bytes(Packing packing, std::size_t n) {
  switch (packing) {
    case Packing::kZeros: return 0;
    case Packing::kFives: return (n + 4) / 5;
    case Packing::kPairs: return (n + 1) / 2;
    case Packing::kBytes: return n;
    case Packing::kWords: return 2 * n;
  }
  return 0;
}

// `per_byte` digits of base 2 * most + 1.
void pack_digits(std::span<const std::int16_t> row, int most, std::size_t per_byte, std::byte* out) {
  const int base = 2 * most + 1;
  for (std::size_t i = 0; i < row.size(); i += per_byte) {
    int byte = 0;
    for (std::size_t j = std::min(per_byte, row.size() - i); j-- > 0;) byte = byte * base + row[i + j] + most;
    *out++ = static_cast<std::byte>(byte);
  }
}

void pack(Packing packing, std::span<const std::int16_t> row, std::byte* out) {
  switch (packing) {
    case Packing::kZeros: break;
    case Packing::kFives: pack_digits(row, 1, 5, out); break;
    case Packing::kPairs: pack_digits(row, 7, 2, out); break;
    case Packing::kBytes:
      for (const std::int16_t v : row) *out++ = static_cast<std::byte>(v);
      break;
    case Packing::kWords:
      for (const std::int16_t v : row) *out++ = static_cast<std::byte>(v);
      for (const std::int16_t v : row) *out++ = static_cast<std::byte>(v >> 8);
      break;
  }
}

// digits[byte]: the numbers in a byte.
template <int kMost, std::size_t kPerByte>
constexpr auto make_digits() {
  std::array<std::array<std::int16_t, kPerByte>, 256> out{};
  for (int byte = 0; byte < 256; ++byte) {
    int rest = byte;
    for (auto& digit : out[static_cast<std::size_t>(byte)]) {
      digit = static_cast<std::int16_t>(rest % (2 * kMost + 1) - kMost);
      rest /= 2 * kMost + 1;
    }
  }
  return out;
}

// Whatever the byte, the numbers are in range; check_packed() has refused those that no packing writes.
template <int kMost, std::size_t kPerByte>
void unpack_digits(const std::byte* in, std::span<std::int16_t> out) {
  static constexpr auto digits = make_digits<kMost, kPerByte>();
  std::size_t i = 0;
  for (; i + kPerByte <= out.size(); i += kPerByte) {
    std::memcpy(&out[i], digits[static_cast<std::size_t>(*in++)].data(), kPerByte * sizeof(std::int16_t));
  }
  for (std::size_t j = 0; i + j < out.size(); ++j) out[i + j] = digits[static_cast<std::size_t>(*in)][j];
}

// Of a packing with several digits in a byte; 1 for the others.
struct Digits {
  int base = 1;
  std::size_t per_byte = 1;
};
Digits digits_of(Packing packing) {
  if (packing == Packing::kFives) return {.base = 3, .per_byte = 5};
  if (packing == Packing::kPairs) return {.base = 15, .per_byte = 2};
  return {};
}

int power(int base, std::size_t exponent) {
  int out = 1;
  for (std::size_t i = 0; i < exponent; ++i) out *= base;
  return out;
}

// Rows of n numbers each. kInvalid for a byte that pack() does not write: more than its digits can be.
Status check_packed(Packing packing, std::size_t n, ByteView rows) {
  const auto [base, per_byte] = digits_of(packing);
  if (base == 1) return {};
  const int most = power(base, per_byte) - 1;
  const int most_of_last = n % per_byte == 0 ? most : power(base, n % per_byte) - 1;
  std::byte largest{0};
  for (const std::byte byte : rows) largest = std::max(largest, byte);
  std::byte largest_last{0};
  const std::size_t stride = packed_bytes(packing, n);
  for (std::size_t end = stride; end <= rows.size(); end += stride) largest_last = std::max(largest_last, rows[end - 1]);
  if (static_cast<int>(largest) <= most && static_cast<int>(largest_last) <= most_of_last) return {};
  return fail(ErrorKind::kInvalid, "a byte of {} digits of base {} is {}, and the last of a row {}", per_byte, base,
              static_cast<int>(largest), static_cast<int>(largest_last));
}

// Calls f(class, the indices of its rows) for each class present, in ascending order.
template <typename F>
Status for_each_class(std::span<const RowClass> classes, const F& f) {
  std::array<std::vector<std::size_t>, 256> members;
  for (std::size_t i = 0; i < classes.size(); ++i) members[classes[i]].push_back(i);
  for (std::size_t row_class = 0; row_class < members.size(); ++row_class) {
    if (packing_of(static_cast<RowClass>(row_class)) == Packing::kZeros || members[row_class].empty()) continue;
    CELSLM_CHECK_OK(f(static_cast<RowClass>(row_class), members[row_class]));
  }
  return {};
}

}  // namespace

// Of our own choice, since it is part of the format: zstd stores what it cannot shorten with 3 bytes per 128 KiB and a frame
// of at most 18.
std::size_t max_streams_bytes(std::size_t raw_bytes) {
  constexpr std::size_t kStreams = 1 + (kPackings - 1) * kOctaves;
  return raw_bytes + raw_bytes / 256 + kStreams * 64;
}

StreamWriter::StreamWriter(ByteWriter& out) : out_(out), context_(ZSTD_createCCtx()) {
  if (context_ == nullptr) return;
  // Long matches only: short ones cost more than the Huffman codes they replace.
  ZSTD_CCtx_setParameter(context_, ZSTD_c_compressionLevel, 1);
  ZSTD_CCtx_setParameter(context_, ZSTD_c_minMatch, 7);
}

StreamWriter::~StreamWriter() {
  ZSTD_freeCCtx(context_);
}

Status StreamWriter::write(ByteView raw) {
  if (context_ == nullptr) return fail(ErrorKind::kInternal, "zstd: out of memory");
  Bytes frame(ZSTD_compressBound(raw.size()));
  const std::size_t size = ZSTD_compress2(context_, frame.data(), frame.size(), raw.data(), raw.size());
  if (ZSTD_isError(size) != 0U) return fail(ErrorKind::kInternal, "zstd: {}", ZSTD_getErrorName(size));
  out_.u32(static_cast<std::uint32_t>(size));
  out_.bytes(ByteView(frame).first(size));
  return {};
}

StreamReader::StreamReader(ByteReader& in) : in_(in), context_(ZSTD_createDCtx()) {}

StreamReader::~StreamReader() {
  ZSTD_freeDCtx(context_);
}

Status StreamReader::read(std::span<std::byte> raw) {
  if (context_ == nullptr) return fail(ErrorKind::kInternal, "zstd: out of memory");
  const ByteView frame = in_.bytes(in_.u32());
  if (!in_.ok()) return fail(ErrorKind::kInvalid, "a stream is cut short");
  const std::size_t size = ZSTD_decompressDCtx(context_, raw.data(), raw.size(), frame.data(), frame.size());
  if (ZSTD_isError(size) != 0U) return fail(ErrorKind::kInvalid, "a stream is damaged: {}", ZSTD_getErrorName(size));
  if (size != raw.size()) return fail(ErrorKind::kInvalid, "a stream holds {} bytes, not {}", size, raw.size());
  return {};
}

RowClass classify(std::span<const std::int16_t> row) {
  int most = 0;
  std::uint64_t energy = 0;
  for (const std::int16_t v : row) {
    most = std::max(most, std::abs(v));
    energy += static_cast<std::uint64_t>(v * v);
  }
  const Packing packing = most == 0     ? Packing::kZeros
                          : most <= 1   ? Packing::kFives
                          : most <= 7   ? Packing::kPairs
                          : most <= 127 ? Packing::kBytes
                                        : Packing::kWords;
  if (packing == Packing::kZeros) return 0;
  const int octave = static_cast<int>(std::bit_width(16 * energy / row.size())) / 2;  // of the deviation, in quarters
  return static_cast<RowClass>(static_cast<int>(packing) * kOctaves + std::min(octave, kOctaves - 1));
}

Status check_class(RowClass row_class) {
  if (row_class == 0 || (row_class >= kOctaves && row_class < kPackings * kOctaves)) return {};
  return fail(ErrorKind::kInvalid, "no row has the class {}", row_class);
}

Status write_rows(std::span<const RowClass> classes, std::span<const std::int16_t> rows, std::size_t n, StreamWriter& out) {
  return for_each_class(classes, [&](RowClass row_class, std::span<const std::size_t> members) {
    const Packing packing = packing_of(row_class);
    const std::size_t stride = packed_bytes(packing, n);
    Bytes raw(members.size() * stride);
    for (std::size_t i = 0; i < members.size(); ++i) {
      pack(packing, rows.subspan(members[i] * n, n), raw.data() + i * stride);
    }
    return out.write(raw);
  });
}

Result<PackedRows> PackedRows::read(std::span<const RowClass> classes, std::size_t n, StreamReader& in) {
  PackedRows out;
  out.n_ = n;
  out.rows_.resize(classes.size());
  auto status = for_each_class(classes, [&](RowClass row_class, std::span<const std::size_t> members) -> Status {
    const std::size_t stride = packed_bytes(packing_of(row_class), n);
    Bytes& raw = out.streams_.emplace_back(members.size() * stride);
    CELSLM_CHECK_OK(in.read(raw));
    CELSLM_CHECK_OK(check_packed(packing_of(row_class), n, raw));
    for (std::size_t i = 0; i < members.size(); ++i) out.rows_[members[i]] = {row_class, raw.data() + i * stride};
    return {};
  });
  if (!status) return std::unexpected(std::move(status).error());
  return out;
}

void PackedRows::unpack(std::size_t row, std::size_t first, std::span<std::int16_t> out) const {
  static_assert(kPiece % 5 == 0 && kPiece % 2 == 0, "pieces begin with a byte");
  const auto& [row_class, bytes] = rows_[row];
  switch (packing_of(row_class)) {
    case Packing::kZeros: std::ranges::fill(out, std::int16_t{0}); break;
    case Packing::kFives: unpack_digits<1, 5>(bytes + first / 5, out); break;
    case Packing::kPairs: unpack_digits<7, 2>(bytes + first / 2, out); break;
    case Packing::kBytes:
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = int{std::bit_cast<std::int8_t>(bytes[first + i])};
      break;
    case Packing::kWords:
      for (std::size_t i = 0; i < out.size(); ++i) {
        const int word = static_cast<int>(bytes[first + i]) | static_cast<int>(bytes[n_ + first + i]) << 8;
        out[i] = static_cast<std::int16_t>(word);
      }
      break;
  }
}

}  // namespace celslm
