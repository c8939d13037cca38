#include "bench/cpp/kv_treatments.h"

#include <ggml.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "bench/cpp/transform_variants.h"
#include "kv/codec/codec.h"
#include "model/engine/key_weights.h"

namespace celslm {
namespace {

constexpr double kTableEntryBits = 44 * 8;  // per block, in the pack's header

// CPU time of this thread, so that other load on the machine matters little.
double cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// A new segment of planes that went through `change`. change(plane, out, treated) fills `out` and adds to bits and times.
template <typename F>
Result<TreatedKv> treat_planes(const Model& model, const ExactKv& exact, const F& change) {
  const ModelConfig& config = model.config();
  CELSLM_TRY(auto segment, KvSegment::create(config, KvType::kF16, 0, exact.planes.n_tokens));
  TreatedKv out{.segment = std::move(segment)};
  for (int layer = 0; layer < static_cast<int>(exact.planes.k.size()); ++layer) {
    for (const BlockKind kind : {BlockKind::kKey, BlockKind::kValue}) {
      const bool key = kind == BlockKind::kKey;
      const Plane plane = plane_of(config, exact, layer, kind);
      std::vector<float> changed(plane.values.size());
      CELSLM_CHECK_OK(change(plane, std::span<float>(changed), out));
      const std::span<const float> none;
      CELSLM_CHECK_OK(Engine::import_rows(model, *out.segment, layer, 0, exact.planes.n_tokens,
                                          key ? std::span<const float>(changed) : none,
                                          key ? none : std::span<const float>(changed)));
    }
  }
  out.segment->set_length(exact.planes.n_tokens);
  return out;
}

Status through_codec(const Codec& codec, const Plane& plane, ChannelWeights weights, std::span<float> out,
                     TreatedKv& treated) {
  for (int token = 0; token < plane.n_tokens; token += codec.block_tokens()) {
    const BlockShape shape{.kind = plane.kind,
                           .n_tokens = std::min(codec.block_tokens(), plane.n_tokens - token),
                           .n_kv_heads = plane.n_kv_heads,
                           .head_dim = plane.head_dim};
    const std::size_t first = static_cast<std::size_t>(token) * plane.width();
    const double start = cpu_seconds();
    CELSLM_TRY(const Bytes bytes, codec.encode(shape, plane.values.subspan(first, shape.values()), weights));
    const double encoded = cpu_seconds();
    CELSLM_CHECK_OK(codec.decode(shape, bytes, out.subspan(first, shape.values())));
    treated.encode_s += encoded - start;
    treated.decode_s += cpu_seconds() - encoded;
    treated.bits += 8.0 * static_cast<double>(bytes.size()) + kTableEntryBits;
  }
  return {};
}

Treatment with_codec(const Codec& codec) {
  return {std::string(codec.name()), true, false, [&codec](const Model& model, const Subject& subject) {
            return treat_planes(model, subject.exact, [&](const Plane& plane, std::span<float> out, TreatedKv& treated) {
              const bool weighted = plane.kind == BlockKind::kKey && !codec.exact_for();
              const auto weights = weighted ? key_weights(model, plane.layer) : std::vector<float>();
              return through_codec(codec, plane, weights, out, treated);
            });
          }};
}

// K after RoPE and V, as stored in a segment, quantized to one of ggml's types in rows of head_dim values.
Result<TreatedKv> through_ggml(ggml_type type, const Model& model, const ExactKv& exact) {
  const ModelConfig& config = model.config();
  CELSLM_TRY(auto segment, KvSegment::create(config, KvType::kF16, 0, exact.planes.n_tokens));
  TreatedKv out{.segment = std::move(segment)};
  const ggml_type_traits& traits = *ggml_get_type_traits(type);
  if (config.head_dim % traits.blck_size != 0)
    return fail(ErrorKind::kInvalid, "head_dim {} is not a multiple of the block size of {}", config.head_dim,
                traits.type_name);
  const auto width = static_cast<std::size_t>(config.head_dim);
  std::vector<float> row(width);
  Bytes packed(ggml_row_size(type, config.head_dim));
  const auto copy = [&](const void* from, void* to) {
    const std::size_t rows = static_cast<std::size_t>(config.n_kv_heads) * static_cast<std::size_t>(exact.planes.n_tokens);
    for (std::size_t i = 0; i < rows; ++i) {
      ggml_fp16_to_fp32_row(static_cast<const ggml_fp16_t*>(from) + i * width, row.data(), config.head_dim);
      traits.from_float_ref(row.data(), packed.data(), config.head_dim);
      traits.to_float(packed.data(), row.data(), config.head_dim);
      ggml_fp32_to_fp16_row(row.data(), static_cast<ggml_fp16_t*>(to) + i * width, config.head_dim);
      out.bits += 8.0 * static_cast<double>(packed.size());
    }
  };
  for (int layer = 0; layer < exact.segment->n_layers(); ++layer) {
    copy(exact.segment->view(layer).k, out.segment->k_data(layer));
    copy(exact.segment->view(layer).v, out.segment->v_data(layer));
  }
  out.segment->set_length(exact.planes.n_tokens);
  return out;
}

// Symbol frequencies of a stream; bits() is its zeroth-order entropy.
class Histogram {
 public:
  void add(int symbol) { ++counts_[symbol]; }
  double bits() const {
    double total = 0.0;
    for (const auto& [symbol, count] : counts_) total += count;
    double out = 0.0;
    for (const auto& [symbol, count] : counts_) out -= count * std::log2(count / total);
    return out;
  }

 private:
  std::map<int, double> counts_;
};

// Quantizes `count` values, `stride` apart, to 16 levels between their minimum and maximum; minimum and step are f16.
void quantize_range(const float* in, float* out, std::size_t count, std::size_t stride, Histogram& symbols) {
  float low = in[0];
  float high = in[0];
  for (std::size_t i = 0; i < count; ++i) {
    low = std::min(low, in[i * stride]);
    high = std::max(high, in[i * stride]);
  }
  low = ggml_fp16_to_fp32(ggml_fp32_to_fp16(low));
  const float step = ggml_fp16_to_fp32(ggml_fp32_to_fp16((high - low) / 15.0F));
  for (std::size_t i = 0; i < count; ++i) {
    const float symbol = step > 0.0F ? std::clamp(std::nearbyint((in[i * stride] - low) / step), 0.0F, 15.0F) : 0.0F;
    symbols.add(static_cast<int>(symbol));
    out[i * stride] = low + symbol * step;
  }
}

// After KIVI (arXiv 2402.02750): K per channel over groups of 64 tokens, V per token and head, 4 bits and two f16 per group;
// the first four tokens and the first and last layer at 8.5 bits (with the loss of q8, neglected here).
Status kivi4(const Plane& plane, int n_layers, bool entropy_coded, std::span<float> out, TreatedKv& treated) {
  constexpr int kGroup = 64;
  constexpr int kSinks = 4;
  std::ranges::copy(plane.values, out.begin());
  if (plane.layer == 0 || plane.layer == n_layers - 1) {
    treated.bits += 8.5 * static_cast<double>(plane.values.size());
    return {};
  }
  const std::size_t width = plane.width();
  treated.bits += 8.5 * static_cast<double>(width) * std::min(kSinks, plane.n_tokens);
  const bool key = plane.kind == BlockKind::kKey;
  const auto head_dim = static_cast<std::size_t>(plane.head_dim);
  std::vector<Histogram> symbols(key ? width : 1);  // q4z orders its symbols by channel
  std::size_t coded = 0;
  for (int token = std::min(kSinks, plane.n_tokens); token < plane.n_tokens; token += key ? kGroup : 1) {
    const auto count = static_cast<std::size_t>(std::min(kGroup, plane.n_tokens - token));
    const std::size_t first = static_cast<std::size_t>(token) * width;
    for (std::size_t c = 0; c < width; c += key ? 1 : head_dim) {
      quantize_range(&plane.values[first + c], &out[first + c], key ? count : head_dim, key ? width : 1,
                     symbols[key ? c : 0]);
      coded += key ? count : head_dim;
      treated.bits += 32.0;
    }
  }
  if (!entropy_coded) treated.bits += 4.0 * static_cast<double>(coded);
  if (entropy_coded) {
    for (const Histogram& histogram : symbols) treated.bits += histogram.bits();
  }
  return {};
}

// Like t3 without a transform: one step size for all channels, an ideal coder for each channel.
Status uniform_steps(const Plane& plane, double relative_step, std::span<float> out, TreatedKv& treated) {
  const std::size_t width = plane.width();
  std::vector<double> mean(width);
  for (std::size_t i = 0; i < plane.values.size(); ++i) mean[i % width] += plane.values[i] / plane.n_tokens;
  double energy = 0.0;
  for (std::size_t i = 0; i < plane.values.size(); ++i) energy += std::pow(plane.values[i] - mean[i % width], 2);
  const double share = plane.kind == BlockKind::kKey ? relative_step / 2.0 : relative_step * 2.0;
  const double step = share * std::sqrt(energy / static_cast<double>(plane.values.size()));
  std::vector<Histogram> symbols(width);
  for (std::size_t i = 0; i < plane.values.size(); ++i) {
    const double symbol = step > 0.0 ? std::nearbyint((plane.values[i] - mean[i % width]) / step) : 0.0;
    symbols[i % width].add(static_cast<int>(symbol));
    out[i] = static_cast<float>(mean[i % width] + symbol * step);
  }
  for (const Histogram& histogram : symbols) treated.bits += histogram.bits() + 16.0;
  return {};
}

Treatment with_kivi4(std::string name, bool entropy_coded) {
  return {std::move(name), false, false, [entropy_coded](const Model& model, const Subject& subject) {
            return treat_planes(model, subject.exact, [&](const Plane& plane, std::span<float> out, TreatedKv& treated) {
              return kivi4(plane, model.config().n_layers, entropy_coded, out, treated);
            });
          }};
}

Treatment with_uniform_steps(std::string name, double relative_step) {
  return {std::move(name), false, false, [relative_step](const Model& model, const Subject& subject) {
            return treat_planes(model, subject.exact, [&](const Plane& plane, std::span<float> out, TreatedKv& treated) {
              return uniform_steps(plane, relative_step, out, treated);
            });
          }};
}

Treatment with_transform(std::string name, TransformVariant variant) {
  return {std::move(name), false, true, [variant](const Model& model, const Subject& subject) {
            return treat_planes(model, subject.exact, [&](const Plane& plane, std::span<float> out, TreatedKv& treated) {
              std::vector<Plane> others;
              for (const ExactKv* other : subject.others)
                others.push_back(plane_of(model.config(), *other, plane.layer, plane.kind));
              const auto number = static_cast<std::size_t>(2 * plane.layer + (plane.kind == BlockKind::kKey ? 0 : 1));
              return through_transform(variant, plane, others, subject.step_factors[number], out, treated.bits);
            });
          }};
}

Treatment with_ggml(std::string name, ggml_type type) {
  return {std::move(name), false, false,
          [type](const Model& model, const Subject& subject) { return through_ggml(type, model, subject.exact); }};
}

}  // namespace

std::vector<Treatment> all_treatments() {
  std::vector<Treatment> out;
  for (const Codec* codec : all_codecs()) out.push_back(with_codec(*codec));
  out.push_back(with_ggml("llama.cpp q8_0", GGML_TYPE_Q8_0));
  out.push_back(with_ggml("llama.cpp q4_0", GGML_TYPE_Q4_0));
  out.push_back(with_kivi4("q4", false));
  out.push_back(with_kivi4("q4z", true));
  out.push_back(with_uniform_steps("c4", 0.125));
  out.push_back(with_uniform_steps("c3", 0.25));
  for (const auto& [digit, step] : {std::pair("4", 0.125), std::pair("3", 0.25), std::pair("2", 0.5)}) {
    out.push_back(with_transform(std::string("d") + digit, {.step = step, .deltas = true}));
    out.push_back(with_transform(std::string("p") + digit, {.step = step, .calibrated_basis = true}));
    out.push_back(with_transform(std::string("b") + digit, {.step = step, .by_sensitivity = true}));
  }
  return out;
}

Result<TreatedKv> coarsen_plane(const Model& model, const ExactKv& exact, int layer, BlockKind kind) {
  return treat_planes(model, exact, [&](const Plane& plane, std::span<float> out, TreatedKv& treated) -> Status {
    if (plane.layer == layer && plane.kind == kind)
      return through_transform({.step = 0.5}, plane, {}, 1.0, out, treated.bits);
    std::ranges::copy(plane.values, out.begin());
    return {};
  });
}

}  // namespace celslm
