// The architectures that this engine has graphs for, as data: what the layers of each are made of beside what all share.
// The config reader, the weights loader and the graph builder read it, so that another architecture is a row and a test.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace celslm {

enum class Architecture : std::uint8_t { kLlama, kQwen2, kQwen3 };

enum class HeadNorm : std::uint8_t { kNone, kBeforeRope };

// A row of the table. What is not named in a row is as in a Llama: RMS norms before attention and before the MLP, Q, K, V
// with optional biases, RoPE in every layer, SwiGLU, an output head that may be the token embedding.
struct ArchitectureTraits {
  Architecture architecture = Architecture::kLlama;
  const char* name = "";  // as in GGUF's general.architecture; its keys begin with it

  HeadNorm head_norm = HeadNorm::kNone;  // RMS norm of each head of Q and K

  bool neox = true;                // RoPE turns the pairs (i, i + n/2), else (2i, 2i + 1)
  bool partial_rope = true;        // RoPE may turn fewer than all dimensions of a head
  bool frequency_factors = false;  // rope_freqs.weight, where the file has it
};

std::span<const ArchitectureTraits> all_architectures();
const ArchitectureTraits& traits_of(Architecture architecture);
// Null where there is none of that name.
const ArchitectureTraits* find_architecture(std::string_view name);
const char* to_string(Architecture architecture);

}  // namespace celslm
