// Recurrent layers: which they are, and what their states are made of.
#include <cstdint>
#include <string>
#include <vector>

#include "model/gguf/config_parts.h"

namespace celslm {
namespace {

constexpr int kMaxConvTokens = 64;
constexpr int kMaxInner = 1 << 18;
constexpr int kMaxStateHeads = 4096;
constexpr int kDeltaNetLanes = 16;  // the kernel's vectors
constexpr int kMaxStateHeadDim = 1024;
constexpr std::int64_t kMaxStateBytes = std::int64_t{64} << 20;  // of a layer: as in packs

Status set_state(LayerTraits& layer, std::int64_t n_values) {
  const std::int64_t bytes = n_values * static_cast<std::int64_t>(sizeof(float));
  if (bytes > kMaxStateBytes)
    return fail(ErrorKind::kMismatch, "recurrent layers with a state of {} bytes; up to {} are supported", bytes,
                kMaxStateBytes);
  layer = {.state_values = static_cast<int>(n_values), .rope = RopeUse::kNone};
  return {};
}

// Layers without KV heads have a convolution instead; its state is what it reads of earlier tokens.
Status read_short_convs(const GgufMetadata& m, const std::string& p, ModelConfig& config) {
  const std::string key = p + "attention.head_count_kv";
  CELSLM_TRY(const int conv_tokens, m.integer(p + "shortconv.l_cache", 2, kMaxConvTokens));
  if (!m.is_array(key)) return {};
  CELSLM_TRY(const std::vector<int> kv_heads, m.integers(key, 0, INT32_MAX));
  if (std::ssize(kv_heads) != config.n_layers)
    return fail(ErrorKind::kInvalid, "'{}' has {} entries for {} layers", key, kv_heads.size(), config.n_layers);
  for (int i = 0; i < config.n_layers; ++i) {
    if (kv_heads[static_cast<std::size_t>(i)] > 0) continue;
    config.recurrence = {.conv_tokens = conv_tokens, .conv_channels = config.n_embd};
    CELSLM_CHECK_OK(set_state(config.layers[static_cast<std::size_t>(i)], std::int64_t{conv_tokens - 1} * config.n_embd));
  }
  return {};
}

Result<std::vector<bool>> recurrent_layers(const GgufMetadata& m, const std::string& p, const ModelConfig& config) {
  const std::string key = p + "attention.recurrent_layers";
  if (m.has(key)) {
    CELSLM_TRY(auto layers, m.booleans(key));
    const int wanted = config.n_layers + config.n_prediction_layers;
    if (std::ssize(layers) == wanted) return layers;
    return fail(ErrorKind::kInvalid, "'{}' has {} entries for {} layers", key, layers.size(), wanted);
  }
  constexpr int kUsualInterval = 4;
  CELSLM_TRY(const int interval, m.integer(p + "full_attention_interval", 1, INT32_MAX, kUsualInterval));
  std::vector<bool> out;
  out.reserve(static_cast<std::size_t>(config.n_layers));
  for (int i = 0; i < config.n_layers; ++i) out.push_back((i + 1) % interval != 0);
  return out;
}

Status check_delta_net(const RecurrenceConfig& net, int inner) {
  if (net.n_value_heads % net.n_key_heads != 0)
    return fail(ErrorKind::kInvalid, "{} value heads of a delta net do not divide into {} key heads", net.n_value_heads,
                net.n_key_heads);
  if (net.head_dim % kDeltaNetLanes != 0 || net.head_dim > kMaxStateHeadDim)
    return fail(ErrorKind::kMismatch, "delta nets with heads of {}; multiples of {} up to {} are supported", net.head_dim,
                kDeltaNetLanes, kMaxStateHeadDim);
  if (inner != net.value_width())
    return fail(ErrorKind::kMismatch, "a delta net of {} values for {} heads of {}: keys and values of different size",
                inner, net.n_value_heads, net.head_dim);
  return {};
}

// Positions in several dimensions are one for text, which is all that there is here, if every pair of a head turns by one of
// the first three: the pairs take turns among these as far as each section reaches.
Status check_rope_sections(const GgufMetadata& m, const std::string& p, const ModelConfig& config) {
  constexpr std::size_t kDimensions = 3;
  const std::string key = p + "rope.dimension_sections";
  CELSLM_TRY(const std::vector<int> sections, m.integers(key, 0, INT16_MAX));
  if (sections.size() < kDimensions) return fail(ErrorKind::kInvalid, "'{}' has {} entries", key, sections.size());
  int sum = 0;
  for (const int section : sections) sum += section;
  for (int pair = 0; pair < config.rope.dimensions / 2; ++pair) {
    const int sector = sum == 0 ? 0 : pair % sum;
    if (sector < static_cast<int>(kDimensions) * sections[static_cast<std::size_t>(sector) % kDimensions]) continue;
    return fail(ErrorKind::kMismatch, "'{}' leaves pair {} of {} dimensions without a position of its own", key, pair,
                config.rope.dimensions);
  }
  return {};
}

Status read_delta_nets(const GgufMetadata& m, const std::string& p, ModelConfig& config) {
  RecurrenceConfig net;
  CELSLM_TRY(net.conv_tokens, m.integer(p + "ssm.conv_kernel", 2, kMaxConvTokens));
  CELSLM_TRY(const int inner, m.integer(p + "ssm.inner_size", 1, kMaxInner));
  CELSLM_TRY(net.head_dim, m.integer(p + "ssm.state_size", 1, kMaxInner));
  CELSLM_TRY(net.n_value_heads, m.integer(p + "ssm.time_step_rank", 1, kMaxStateHeads));
  CELSLM_TRY(net.n_key_heads, m.integer(p + "ssm.group_count", 1, kMaxStateHeads));
  CELSLM_CHECK_OK(check_delta_net(net, inner));
  net.conv_channels = 2 * net.key_width() + net.value_width();
  CELSLM_CHECK_OK(check_rope_sections(m, p, config));
  CELSLM_TRY(const std::vector<bool> recurrent, recurrent_layers(m, p, config));
  const std::int64_t n_values = net.conv_values() + std::int64_t{net.value_width()} * net.head_dim;
  int n_recurrent = 0;
  for (int i = 0; i < config.n_layers; ++i) {
    if (!recurrent[static_cast<std::size_t>(i)]) continue;
    CELSLM_CHECK_OK(set_state(config.layers[static_cast<std::size_t>(i)], n_values));
    ++n_recurrent;
  }
  if (n_recurrent == config.n_layers) return fail(ErrorKind::kMismatch, "no layer has attention, which is not supported");
  if (n_recurrent > 0) config.recurrence = net;
  return {};
}

}  // namespace

Status read_recurrence(const GgufMetadata& m, const std::string& prefix, ModelConfig& config) {
  switch (config.traits().recurrence) {
    case Recurrence::kNone: return {};
    case Recurrence::kShortConv: return read_short_convs(m, prefix, config);
    case Recurrence::kDeltaNet: return read_delta_nets(m, prefix, config);
  }
  return {};
}

}  // namespace celslm
