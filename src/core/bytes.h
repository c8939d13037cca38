// Little-endian readers and writers over byte buffers. Bytes from outside go through ByteReader, never through a cast.
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace celslm {

static_assert(std::endian::native == std::endian::little, "file formats here are little-endian; swap in bytes.h for others");

using Bytes = std::vector<std::byte>;
using ByteView = std::span<const std::byte>;

inline ByteView as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}
inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Reads forward through a view it does not own. Once a read has failed every later one fails too, so a parser may read
// a complete record and check ok() once. Not thread-safe.
class ByteReader {
 public:
  explicit ByteReader(ByteView data) : data_(data) {}

  template <std::integral T>
  T integer() {
    T value{};
    if (const ByteView raw = bytes(sizeof(T)); !raw.empty()) std::memcpy(&value, raw.data(), sizeof(T));
    return value;
  }
  std::uint8_t u8() { return integer<std::uint8_t>(); }
  std::uint16_t u16() { return integer<std::uint16_t>(); }
  std::uint32_t u32() { return integer<std::uint32_t>(); }
  std::uint64_t u64() { return integer<std::uint64_t>(); }
  float f32() { return std::bit_cast<float>(u32()); }

  // The next n bytes, or an empty view and a failed reader if fewer are left.
  ByteView bytes(std::size_t n) {
    if (!ok_ || n > data_.size() - position_) {
      ok_ = false;
      return {};
    }
    const ByteView out = data_.subspan(position_, n);
    position_ += n;
    return out;
  }

  // A u32 length and that many bytes; a length over `limit` fails the reader.
  std::string text(std::size_t limit) {
    const std::size_t n = u32();
    if (n > limit) ok_ = false;
    return std::string(as_text(bytes(n)));
  }

  bool ok() const { return ok_; }
  std::size_t position() const { return position_; }
  std::size_t remaining() const { return data_.size() - position_; }

 private:
  ByteView data_;
  std::size_t position_ = 0;
  bool ok_ = true;
};

class ByteWriter {
 public:
  template <std::integral T>
  void integer(T value) {
    const auto raw = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
    out_.insert(out_.end(), raw.begin(), raw.end());
  }
  void u8(std::uint8_t v) { integer(v); }
  void u16(std::uint16_t v) { integer(v); }
  void u32(std::uint32_t v) { integer(v); }
  void u64(std::uint64_t v) { integer(v); }
  void f32(float v) { integer(std::bit_cast<std::uint32_t>(v)); }
  void bytes(ByteView data) { out_.insert(out_.end(), data.begin(), data.end()); }
  void text(std::string_view s) {
    u32(static_cast<std::uint32_t>(s.size()));
    bytes(as_bytes(s));
  }

  const Bytes& data() const { return out_; }
  Bytes take() { return std::move(out_); }

 private:
  Bytes out_;
};

}  // namespace celslm
