// Models whose architecture has no graph here: libllama runs them, as one layer.
#pragma once

#include <filesystem>
#include <memory>
#include <span>

#include "core/result.h"
#include "model/engine/model.h"
#include "model/gguf/gguf_metadata.h"
#include "model/gguf/gguf_parts.h"

namespace celslm {

// Whether the architecture that the file names is one that this engine has no graph for.
bool is_foreign(const GgufMetadata& metadata);

// Loads the model of these files, the first of which is `path`, into libllama. Its configuration is that of one layer whose
// KV takes as much memory as libllama's; its fingerprint is of the files and of this libllama. Errors of LlamaModel::load()
// and Text::load().
Result<std::unique_ptr<Model::Impl>> load_foreign(const std::filesystem::path& path, std::span<const GgufPart> parts,
                                                  const ModelOptions& options);

}  // namespace celslm
