#include "model/architecture.h"

#include <algorithm>
#include <array>

namespace celslm {
namespace {

// In the order of the enumeration, which a test compares.
constexpr auto kArchitectures = std::to_array<ArchitectureTraits>({
    {.architecture = Architecture::kLlama, .name = "llama", .neox = false, .partial_rope = false, .frequency_factors = true},
    {.architecture = Architecture::kQwen2, .name = "qwen2"},
    {.architecture = Architecture::kQwen3, .name = "qwen3", .head_norm = HeadNorm::kBeforeRope},
});

}  // namespace

std::span<const ArchitectureTraits> all_architectures() {
  return kArchitectures;
}

const ArchitectureTraits& traits_of(Architecture architecture) {
  return kArchitectures[static_cast<std::size_t>(architecture)];
}

const ArchitectureTraits* find_architecture(std::string_view name) {
  const auto* found = std::ranges::find(kArchitectures, name, &ArchitectureTraits::name);
  return found == kArchitectures.end() ? nullptr : found;
}

const char* to_string(Architecture architecture) {
  return traits_of(architecture).name;
}

}  // namespace celslm
