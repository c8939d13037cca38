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

// Why the model of these files is one for libllama, before anything of it is loaded: "no graph here for the architecture
// 'x'", or one with recurrent layers; empty otherwise.
std::string foreign_architecture(const GgufMetadata& metadata);

// Loads the model of these files, the first of which is `path`, into libllama. Its configuration is that of one layer whose
// KV takes as much memory as libllama's; its fingerprint is of the files and of this libllama. reason: for
// Model::foreign_reason(). Errors of LlamaModel::load() and Text::load().
Result<std::unique_ptr<Model::Impl>> load_foreign(const std::filesystem::path& path, std::span<const GgufPart> parts,
                                                  const ModelOptions& options, std::string reason);

}  // namespace celslm
