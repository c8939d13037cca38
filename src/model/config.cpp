#include "model/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string_view>

namespace celslm {
namespace {

// Changes when the meaning of a field changes, so that old and new identities never meet by accident.
constexpr std::string_view kFingerprintDomain = "celslm.model.v1";

template <typename T>
std::string differing(const char* field, const T& here, const T& there) {
  return fmt::format("{} ({} here, {} there)", field, here, there);
}

std::string differing(const char* field, const Hash256& here, const Hash256& there) {
  return differing(field, here.hex(), there.hex());
}

std::string describe_states(const std::vector<std::uint32_t>& states) {
  const auto n = states.size() - static_cast<std::size_t>(std::ranges::count(states, 0U));
  return n == 0 ? "none" : fmt::format("{} of up to {} bytes", n, std::ranges::max(states));
}

}  // namespace

bool ModelConfig::has_windows() const {
  return std::ranges::any_of(layers, [](const LayerTraits& layer) { return layer.window > 0; });
}

int ModelConfig::n_row_layers() const {
  if (!has_states()) return n_layers;
  return static_cast<int>(std::ranges::count(layers, 0, &LayerTraits::state_values));
}

std::uint64_t ModelConfig::state_bytes() const {
  std::uint64_t out = 0;
  if (!has_states()) return out;
  for (const LayerTraits& layer : layers) out += static_cast<std::uint64_t>(layer.state_values) * sizeof(float);
  return out;
}

const char* to_string(Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::kCpu: return "CPU";
    case Arithmetic::kCpuIntegers: return "CPU with integer products";
    case Arithmetic::kDevice: return "device";
    case Arithmetic::kLibllama: return "libllama";
  }
  return "unknown";
}

Hash256 ModelFingerprint::id() const {
  Hasher hasher;
  hasher.update_field(kFingerprintDomain).update_field(architecture);
  hasher.update_u64(n_layers).update_u64(n_kv_heads).update_u64(head_dim).update_field(rope);
  hasher.update(std::as_bytes(std::span(weights.bytes))).update(std::as_bytes(std::span(tokenizer.bytes)));
  for (const std::uint32_t bytes : states) hasher.update_u64(bytes);  // of models without any, ids are older than this
  return hasher.finish();
}

// From the coarse to the fine: two different models usually differ in several fields, and the first one named should be
// the one that a person recognises. The tokenizer comes before the weights, which differ in any two models.
std::string ModelFingerprint::difference(const ModelFingerprint& other) const {
  if (architecture != other.architecture) return differing("architecture", architecture, other.architecture);
  if (n_layers != other.n_layers) return differing("n_layers", n_layers, other.n_layers);
  if (n_kv_heads != other.n_kv_heads) return differing("n_kv_heads", n_kv_heads, other.n_kv_heads);
  if (head_dim != other.head_dim) return differing("head_dim", head_dim, other.head_dim);
  if (states != other.states) return differing("states", describe_states(states), describe_states(other.states));
  const bool by_libllama = arithmetic == Arithmetic::kLibllama;  // rope then names the library
  if (rope != other.rope) return differing(by_libllama ? "libllama" : "rope", rope, other.rope);
  if (tokenizer != other.tokenizer) return differing("tokenizer", tokenizer, other.tokenizer);
  if (weights != other.weights) return differing("weights", weights, other.weights);
  if (arithmetic != other.arithmetic)
    return differing("arithmetic class", static_cast<int>(arithmetic), static_cast<int>(other.arithmetic));
  return {};
}

}  // namespace celslm
