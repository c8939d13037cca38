// What a pack file is, for people.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "core/result.h"
#include "kv/pack/signing.h"

namespace celslm {

// Identity, sizes, bytes per layer, and whether signature and blocks are good; some lines of text. Reads and hashes the
// whole file. Damage is part of the description; an error (kNotFound, kIo, kInvalid) only where there is no readable header.
Result<std::string> describe_pack(const std::filesystem::path& path, std::optional<PublicKey> signer);

}  // namespace celslm
