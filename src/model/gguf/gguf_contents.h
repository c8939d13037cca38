// GGUF files of ours that hold no model: texts and numbers by key, matrices.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
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

// One kind of such files, as its reader knows it.
struct GgufKind {
  std::string_view architecture;  // general.architecture
  std::string_view what;          // for messages: "a tuning"
  std::string_view prefix;        // of its own keys: "celslm.tuning."; `version` among them is a number
  std::uint32_t version = 0;
  std::span<const std::string_view> text_keys;  // the others, without the prefix

  std::string key(std::string_view name) const { return std::string(prefix) + std::string(name); }
};

// kInvalid for another kind or version, and for a key with the kind's prefix that it does not have, or has with another
// type: what a reader does not know might matter.
Status check_kind(const GgufContents& file, const GgufKind& kind);
// Names the kind and its version in a file that is to be written.
void set_kind(GgufContents& file, const GgufKind& kind);

// Safe for untrusted input. Matrices of f32, f16 and i32 (numbers up to 2^24) are read, without loss. Errors of
// check_gguf(); kInvalid for other tensors.
Result<GgufContents> parse_gguf(ByteView file);
// Version 3, matrices of f32, keys and tensors in order of name. `others` is not written; at least one matrix, none empty.
Bytes encode_gguf(const GgufContents& contents);

}  // namespace celslm
