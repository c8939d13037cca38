#include "model/engine/model.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "model/engine/engine.h"
#include "model/engine/foreign_model.h"
#include "model/engine/model_impl.h"
#include "model/gguf/gguf_metadata.h"
#include "model/gguf/gguf_parts.h"

namespace celslm {
namespace {

std::vector<std::uint32_t> states_of(const ModelConfig& config) {
  std::vector<std::uint32_t> out;
  if (!config.has_states()) return out;
  for (const LayerTraits& layer : config.layers)
    out.push_back(static_cast<std::uint32_t>(static_cast<std::size_t>(layer.state_values) * sizeof(float)));
  return out;
}

ModelFingerprint fingerprint_of(const ModelConfig& config, const Weights& weights, const GgufMetadata& metadata,
                                bool on_device) {
  return {.architecture = to_string(config.architecture),
          .n_layers = static_cast<std::uint32_t>(config.n_layers),
          .n_kv_heads = static_cast<std::uint32_t>(config.n_kv_heads),
          .head_dim = static_cast<std::uint32_t>(config.head_dim),
          .states = states_of(config),
          .rope = canonical_text(config),
          .weights = weights.hash(),
          .tokenizer = metadata.tokenizer_hash(),
          .arithmetic = on_device ? Arithmetic::kDevice : weights.arithmetic()};
}

// A token through all layers: what the device cannot do shows now rather than in a request.
Status try_device(const std::shared_ptr<const Model>& model) {
  CELSLM_TRY(const auto engine, Engine::create(model, {.n_threads = 1}));
  CELSLM_TRY(auto own, KvSegment::create(model->config(), KvType::kF16, 0, 1));
  const SequenceChunk chunk{.own = std::move(own), .n_tokens = 1};
  return engine->forward(std::array<Token, 1>{0}, std::span(&chunk, 1)).transform([](auto) {});
}

Rotation rotation(const ModelConfig& config, RopeUse use, const ggml_tensor* factors) {
  RopeConfig of = use == RopeUse::kLocal ? config.local_rope : config.rope;
  if (use == RopeUse::kNone) of = {.dimensions = 0};
  Rotation out{.rope = std::make_unique<const Rope>(of, use == RopeUse::kGlobal ? factors : nullptr)};
  out.angles = std::make_unique<const RopeCache>(*out.rope);
  return out;
}

Result<std::unique_ptr<Model::Impl>> load_ours(const std::filesystem::path& path, std::vector<GgufPart> parts,
                                               const ModelOptions& options) {
  const gguf_context* header = parts.front().header.get();  // lives as long as the weights, which take the parts
  const GgufMetadata metadata(header);
  auto impl = std::make_unique<Model::Impl>();
  CELSLM_TRY(impl->config, read_config(metadata));
  if (impl->config.name.empty()) impl->config.name = path.stem().string();
  CELSLM_TRY(impl->config.n_vocab, check_tokenizer(metadata, header));
  CELSLM_TRY(impl->weights, Weights::load(std::move(parts), impl->config, options));
  if (!options.device.empty()) {
    CELSLM_TRY(auto device, OpenDevice::open(options.device, options.device_bytes));
    const int n_layers = std::clamp(options.device_layers, 1, impl->config.n_layers);
    CELSLM_TRY(impl->device, DeviceModel::load(std::move(device), *impl->weights, impl->config, n_layers));
  }
  CELSLM_TRY(impl->text, Text::load(path));
  impl->fingerprint = fingerprint_of(impl->config, *impl->weights, metadata, impl->device != nullptr);
  for (const RopeUse use : {RopeUse::kGlobal, RopeUse::kLocal, RopeUse::kNone})
    impl->rotations[static_cast<std::size_t>(use)] = rotation(impl->config, use, impl->weights->rope_factors);
  return impl;
}

Result<std::unique_ptr<Model::Impl>> load_impl(const std::filesystem::path& path, const ModelOptions& options) {
  CELSLM_CHECK_OK(CpuBackend::get().transform([](auto*) {}));  // silences the libraries' logging, too
  CELSLM_TRY(auto parts, open_gguf(path));
  if (!options.allow_foreign) return load_ours(path, std::move(parts), options);
  std::string reason = foreign_architecture(GgufMetadata(parts.front().header.get()));
  if (reason.empty()) {
    auto ours = load_ours(path, std::move(parts), options);
    if (ours || ours.error().kind != ErrorKind::kMismatch) return ours;
    reason = ours.error().message;
    CELSLM_TRY(parts, open_gguf(path));
  }
  auto foreign = load_foreign(path, parts, options, reason);
  if (!foreign) return fail(foreign.error().kind, "{}; nor does libllama run it: {}", reason, foreign.error().message);
  return foreign;
}

}  // namespace

Result<std::shared_ptr<const Model>> Model::load(const std::filesystem::path& path, const ModelOptions& options) {
  auto impl = load_impl(path, options);
  if (!impl && impl.error().message.starts_with(path.string())) return std::unexpected(impl.error());
  if (!impl) return wrap(std::move(impl).error(), path.string());
  std::shared_ptr<const Model> model(new Model(*std::move(impl)));
  if (model->impl().device) {
    if (Status works = try_device(model); !works) return wrap(std::move(works).error(), path.string());
  }
  return model;
}

Model::Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Model::~Model() = default;

const ModelConfig& Model::config() const {
  return impl_->config;
}
const ModelFingerprint& Model::fingerprint() const {
  return impl_->fingerprint;
}
const Text& Model::text() const {
  return *impl_->text;
}
Arithmetic Model::cpu_arithmetic() const {
  return impl_->foreign ? impl_->fingerprint.arithmetic : impl_->weights->arithmetic();
}
const std::shared_ptr<const LlamaModel>& Model::foreign() const {
  return impl_->foreign;
}
const std::string& Model::foreign_reason() const {
  return impl_->foreign_reason;
}
std::size_t Model::weight_bytes() const {
  return impl_->foreign ? impl_->foreign->weight_bytes() : impl_->weights->size_bytes();
}

}  // namespace celslm
