// The files of a model: one, or several that llama-gguf-split and others made of a large one.
#pragma once

#include <ggml-cpp.h>

#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "core/file.h"
#include "core/result.h"

namespace celslm {

// One file, mapped, with its parsed header. Its tensors have names, types and shapes, and no data.
struct GgufPart {
  std::shared_ptr<const MappedFile> file;
  gguf_context_ptr header;
  ggml_context_ptr tensors;

  ByteView bytes_of(std::int64_t tensor) const;  // 0 <= tensor < gguf_get_n_tensors(header)
};

// Opens a model by its only file, or by the first of several, m-00001-of-00003.gguf, whose metadata is that of all; the
// others lie beside it. Every file has passed check_gguf(). kNotFound; kInvalid for a part that is not the first, is missing
// its number or belongs to another set, and for a tensor that two parts have.
Result<std::vector<GgufPart>> open_gguf(const std::filesystem::path& path);

// The tensor of this name in any of the parts, or null.
ggml_tensor* find_tensor(std::span<const GgufPart> parts, const char* name);

}  // namespace celslm
