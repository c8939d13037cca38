#include "model/matrix/file_codes.h"

#include <cstring>

namespace celslm::packed_detail {
namespace {

using Bytes = const std::uint8_t*;

std::uint16_t half(Bytes at) {
  std::uint16_t out = 0;
  std::memcpy(&out, at, sizeof out);
  return out;
}

// 16 bytes hold the low bits of 32 codes: the first half of the codes in the low nibbles.
void nibbles(Bytes in, int n, std::uint8_t* out) {
  for (int i = 0; i < n; ++i) {
    out[i] = in[i] & 0xF;
    out[i + n] = in[i] >> 4;
  }
}

void add_bit(std::uint8_t& code, bool bit, int at) {
  code = static_cast<std::uint8_t>(code | static_cast<unsigned>(bit) << at);
}

// Four bytes with the fifth bits of 32 codes.
void fifth_bits(Bytes in, std::uint8_t* codes) {
  for (int i = 0; i < 32; ++i) add_bit(codes[i], ((in[i / 8] >> (i % 8)) & 1) != 0, 4);
}

void read_q8_0(Bytes in, FileCodes& out) {
  out.scale = half(in);
  for (int i = 0; i < 32; ++i) out.codes[i] = in[2 + i] ^ 0x80;  // two's complement plus 128
}

// Q4_K and Q5_K: 8 scales and mins of 6 bits in 12 bytes.
void six_bit_scales(Bytes in, FileCodes& out) {
  for (int i = 0; i < 4; ++i) {
    out.scales[i] = in[i] & 63;
    out.mins[i] = in[i + 4] & 63;
    out.scales[i + 4] = static_cast<std::uint8_t>((in[i + 8] & 0xF) | (in[i] >> 6) << 4);
    out.mins[i + 4] = static_cast<std::uint8_t>((in[i + 8] >> 4) | (in[i + 4] >> 6) << 4);
  }
}

void read_q4_k(Bytes in, FileCodes& out) {
  out.scale = half(in);
  out.min = half(in + 2);
  six_bit_scales(in + 4, out);
  for (int pair = 0; pair < 4; ++pair) nibbles(in + 16 + pair * 32, 32, out.codes + pair * 64);
}

void read_q5_k(Bytes in, FileCodes& out) {
  out.scale = half(in);
  out.min = half(in + 2);
  six_bit_scales(in + 4, out);
  const Bytes high = in + 16;
  for (int pair = 0; pair < 4; ++pair) nibbles(in + 48 + pair * 32, 32, out.codes + pair * 64);
  for (int i = 0; i < 256; ++i) add_bit(out.codes[i], ((high[i % 32] >> (i / 32)) & 1) != 0, 4);
}

void read_q6_k(Bytes in, FileCodes& out) {
  for (int part = 0; part < 2; ++part) {
    std::uint8_t* codes = out.codes + part * 128;
    nibbles(in + part * 64, 64, codes);
    const Bytes high = in + 128 + part * 32;
    for (int i = 0; i < 128; ++i) codes[i] = static_cast<std::uint8_t>(codes[i] | ((high[i % 32] >> (i / 32 * 2)) & 3) << 4);
  }
  std::memcpy(out.scales, in + 192, 16);
  out.scale = half(in + 208);
}

// 16 scales of 6 bits, less 32, in 12 bytes: low nibbles first, then two bits of each.
void read_q3_k(Bytes in, FileCodes& out) {
  const Bytes high = in;
  const Bytes low = in + 32;
  const Bytes scales = in + 96;
  for (int i = 0; i < 256; ++i) {
    out.codes[i] = (low[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3;
    add_bit(out.codes[i], ((high[i % 32] >> (i / 32)) & 1) != 0, 2);
  }
  for (int i = 0; i < 16; ++i) {
    const int four = i < 8 ? scales[i] & 0xF : scales[i - 8] >> 4;
    const int two = (scales[8 + i % 4] >> (i / 4 * 2)) & 3;
    out.scales[i] = static_cast<std::uint8_t>((four | two << 4) - 32);
  }
  out.scale = half(in + 108);
}

void read_q2_k(Bytes in, FileCodes& out) {
  std::memcpy(out.scales, in, 16);
  const Bytes low = in + 16;
  for (int i = 0; i < 256; ++i) out.codes[i] = (low[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3;
  out.scale = half(in + 80);
  out.min = half(in + 82);
}

}  // namespace

void read_codes(WeightType type, const std::byte* block, FileCodes& out) {
  const auto* in = reinterpret_cast<Bytes>(block);
  switch (type) {
    case WeightType::kQ40:
    case WeightType::kIq4Nl: out.scale = half(in); return nibbles(in + 2, 16, out.codes);
    case WeightType::kQ41:
      out.scale = half(in);
      out.min = half(in + 2);
      return nibbles(in + 4, 16, out.codes);
    case WeightType::kQ50:
      out.scale = half(in);
      nibbles(in + 6, 16, out.codes);
      return fifth_bits(in + 2, out.codes);
    case WeightType::kQ51:
      out.scale = half(in);
      out.min = half(in + 2);
      nibbles(in + 8, 16, out.codes);
      return fifth_bits(in + 4, out.codes);
    case WeightType::kMxfp4: out.scales[0] = in[0]; return nibbles(in + 1, 16, out.codes);
    case WeightType::kQ80: return read_q8_0(in, out);
    case WeightType::kQ2K: return read_q2_k(in, out);
    case WeightType::kQ3K: return read_q3_k(in, out);
    case WeightType::kQ4K: return read_q4_k(in, out);
    case WeightType::kQ5K: return read_q5_k(in, out);
    case WeightType::kQ6K: return read_q6_k(in, out);
  }
}

}  // namespace celslm::packed_detail
