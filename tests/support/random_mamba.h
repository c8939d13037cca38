// A small recurrent model with random weights: an architecture that only libllama runs, whose state does not grow.
#pragma once

#include <cstdint>
#include <filesystem>

namespace celslm::testing_support {

// Mamba with two layers, and vocabulary and chat template of write_random_model().
void write_random_mamba(const std::filesystem::path& path, std::uint64_t seed = 1);

}  // namespace celslm::testing_support
