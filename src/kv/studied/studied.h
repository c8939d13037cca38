// A studied context as its trainer hands it over: a context's KV of fewer rows than tokens, in a GGUF file. A cloud makes
// signed packs of it. docs/studied-format.md defines the format.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/bytes.h"
#include "core/hash.h"
#include "core/result.h"
#include "kv/pack/context_handle.h"
#include "kv/pack/pack.h"
#include "model/kv/condensed_kv.h"

namespace celslm {

// Limits on a file, checked before anything is allocated. Each comment names what the limit prevents.
inline constexpr std::uint64_t kMaxStudiedBytes = 4ULL << 30;  // a file that does not fit into memory
inline constexpr std::size_t kMaxRecipeBytes = 4096;           // megabytes of text in logs and answers

// The format's version that this program reads and writes.
inline constexpr std::uint32_t kStudiedVersion = 1;

struct StudiedContext {
  Hash256 model;              // ModelFingerprint::id() of the model whose KV this is
  ContextHandle context;      // of the text
  std::vector<Token> tokens;  // of it, kv.n_tokens
  std::string recipe;         // how it was made, in words; may be empty
  int n_kv_heads = 0;
  int head_dim = 0;
  CondensedKv kv;
};

// The study's id in packs: BLAKE3 of a domain and the complete file. Another file is another study, so that the same id
// means the same KV.
Hash256 study_id(ByteView file);

// kInvalid, naming the field: ids, limits of packs, everything that check_condensed() checks.
Status check_studied(const StudiedContext& studied);

// Requires check_studied(). In f32.
Bytes encode_studied(const StudiedContext& studied);
// Safe for untrusted input: kInvalid, naming the field.
Result<StudiedContext> parse_studied(ByteView file);

struct StudiedFile {
  StudiedContext context;
  ContextStudy study;
};
// Errors of parse_studied() and kNotFound, kIo; all begin with the file's name.
Result<StudiedFile> read_studied(const std::filesystem::path& path);
// Writes atomically.
Status write_studied(const std::filesystem::path& path, const StudiedContext& studied);

}  // namespace celslm
