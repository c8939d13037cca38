// Human-readable description of a pack file.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "core/result.h"
#include "kv/pack/signing.h"

namespace celslm {

// Identity, sizes, bytes per layer, and whether the signature and all blocks are valid, as lines of text. Reads and hashes
// the complete file. Damage is part of the description: an error (kNotFound, kIo, kInvalid) means that there is no readable
// header.
Result<std::string> describe_pack(const std::filesystem::path& path, std::optional<PublicKey> signer);

}  // namespace celslm
