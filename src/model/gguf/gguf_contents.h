// GGUF files of ours that hold no model: texts and numbers by key, matrices.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/bytes.h"
#include "core/result.h"

namespace celslm {

struct GgufMatrix {
  std::size_t rows = 0;
  std::size_t columns = 0;    // ggml's first dimension
  std::vector<float> values;  // [rows][columns]
};

struct GgufContents {
  std::map<std::string, std::string> texts;
  std::map<std::string, std::uint32_t> numbers;
  std::set<std::string> others;  // keys of other types, whose values are not read
  std::map<std::string, GgufMatrix> matrices;
};

// Safe for untrusted input. Matrices of f32, f16 and i32 (numbers up to 2^24) are read, without loss. Errors of
// check_gguf(); kInvalid for other tensors.
Result<GgufContents> parse_gguf(ByteView file);
// Version 3, matrices of f32, keys and tensors in order of name. `others` is not written; at least one matrix, none empty.
Bytes encode_gguf(const GgufContents& contents);

}  // namespace celslm
