// Small GGUF files of ours that hold no model: texts and numbers by key, matrices of f32.
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

// Safe for untrusted input. Errors of check_gguf(); kInvalid for a tensor that is no matrix of f32.
Result<GgufContents> parse_gguf(ByteView file);
// Version 3, keys and tensors in order of name. `others` is not written; at least one matrix, none empty.
Bytes encode_gguf(const GgufContents& contents);

}  // namespace celslm
