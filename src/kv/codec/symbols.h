// Integers as bytes: rows of coefficients, packed by how large they are, compressed with zstd. Internal to kv.
//
// A row is small when its numbers are: five in a byte, two in a byte, one, or one in two. Rows alike in size share a stream,
// so that each stream has a Huffman table that suits it; zstd's Huffman stage is what compresses, there is little to match.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/bytes.h"
#include "core/result.h"

struct ZSTD_CCtx_s;  // of zstd.h
struct ZSTD_DCtx_s;

namespace celslm {

// Writes streams: u32 length, then a zstd frame. One thread; what zstd allocates serves all streams of a block.
class StreamWriter {
 public:
  explicit StreamWriter(ByteWriter& out);
  ~StreamWriter();
  StreamWriter(const StreamWriter&) = delete;
  StreamWriter& operator=(const StreamWriter&) = delete;
  Status write(ByteView raw);  // kInternal if zstd fails

 private:
  ByteWriter& out_;
  ZSTD_CCtx_s* context_;
};

// Reads them back.
class StreamReader {
 public:
  explicit StreamReader(ByteReader& in);
  ~StreamReader();
  StreamReader(const StreamReader&) = delete;
  StreamReader& operator=(const StreamReader&) = delete;
  Status read(std::span<std::byte> raw);  // kInvalid unless the next stream yields exactly that many bytes

 private:
  ByteReader& in_;
  ZSTD_DCtx_s* context_;
};

// Which stream a row goes to: kind * 16 + octave.
using RowClass = std::uint8_t;
RowClass classify(std::span<const std::int16_t> row);
// kInvalid for a class that classify() never returns.
Status check_class(RowClass row_class);

// rows: [classes.size()][n]. The streams of all classes present, in ascending order, each with its rows in order.
Status write_rows(std::span<const RowClass> classes, std::span<const std::int16_t> rows, std::size_t n, StreamWriter& out);

// What write_rows() wrote, decompressed but still packed: a block's numbers are twice as large as what they become, so they
// are unpacked piece by piece, into cache, where they are used.
class PackedRows {
 public:
  // Pieces begin at multiples of this.
  static constexpr std::size_t kPiece = 320;

  // kInvalid for bytes that are no such streams. `classes` have passed check_class().
  static Result<PackedRows> read(std::span<const RowClass> classes, std::size_t n, StreamReader& in);
  // Numbers [first, first + out.size()) of a row; out.size() <= kPiece.
  void unpack(std::size_t row, std::size_t first, std::span<std::int16_t> out) const;

 private:
  struct Row {
    RowClass row_class = 0;
    const std::byte* bytes = nullptr;  // in streams_
  };
  std::size_t n_ = 0;  // numbers in a row
  std::vector<Bytes> streams_;
  std::vector<Row> rows_;
};

// The most that a block's streams take, one for its basis and one for each class, for this many bytes in all of them.
std::size_t max_streams_bytes(std::size_t raw_bytes);

}  // namespace celslm
