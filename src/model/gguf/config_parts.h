// The parts of read_config(), whose errors theirs are; for this room's own files. Each completes what the parts before it
// have read; prefix: of the architecture's keys, "llama.".
#pragma once

#include <string>

#include "core/result.h"
#include "model/gguf/gguf_metadata.h"

namespace celslm {

inline constexpr int kMaxContext = 1 << 30;  // tokens

// kMismatch for a key that changes what libllama's graphs compute and that those of this architecture do not read: ignoring
// it would give wrong answers silently.
Status refuse_unread(const GgufMetadata& m, const std::string& prefix, const ArchitectureTraits& traits);

// Needs head_dim and n_ctx_train.
Result<RopeConfig> read_rope(const GgufMetadata& m, const std::string& prefix, const ModelConfig& config);
// Of scores, embeddings, residuals and logits. Needs heads and RoPE.
Status read_scales(const GgufMetadata& m, const std::string& prefix, ModelConfig& config);
// Windows, and which RoPE each layer has. Needs the rest.
Status read_layers(const GgufMetadata& m, const std::string& prefix, ModelConfig& config);

// Which layers are recurrent, and their states. Needs the rest.
Status read_recurrence(const GgufMetadata& m, const std::string& prefix, ModelConfig& config);

}  // namespace celslm
