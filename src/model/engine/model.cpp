#include "model/engine/model.h"

#include <utility>

#include "core/file.h"
#include "model/engine/model_impl.h"
#include "model/gguf/gguf_check.h"
#include "model/gguf/gguf_metadata.h"

namespace celslm {
namespace {

struct Gguf {
  gguf_context_ptr header;
  ggml_context_ptr tensors;  // names, types and shapes; no data
};

Result<Gguf> parse(ByteView file) {
  CELSLM_CHECK_OK(check_gguf(file));
  ggml_context* tensors = nullptr;
  gguf_context_ptr header(gguf_init_from_buffer(file.data(), file.size(), {.no_alloc = true, .ctx = &tensors}));
  if (!header) return fail(ErrorKind::kInvalid, "ggml does not accept its header");
  return Gguf{std::move(header), ggml_context_ptr(tensors)};
}

ModelFingerprint fingerprint_of(const ModelConfig& config, const Weights& weights, const GgufMetadata& metadata) {
  return {.architecture = to_string(config.architecture),
          .n_layers = static_cast<std::uint32_t>(config.n_layers),
          .n_kv_heads = static_cast<std::uint32_t>(config.n_kv_heads),
          .head_dim = static_cast<std::uint32_t>(config.head_dim),
          .rope = canonical_text(config.rope),
          .weights = weights.hash(),
          .tokenizer = metadata.tokenizer_hash()};
}

Result<std::unique_ptr<Model::Impl>> load_impl(const std::filesystem::path& path, const ModelOptions& options) {
  CELSLM_CHECK_OK(CpuBackend::get().transform([](auto*) {}));  // silences the libraries' logging, too
  CELSLM_TRY(auto file, MappedFile::open(path));
  CELSLM_TRY(Gguf gguf, parse(file->bytes()));
  const GgufMetadata metadata(gguf.header.get());
  auto impl = std::make_unique<Model::Impl>();
  CELSLM_TRY(impl->config, read_config(metadata));
  if (impl->config.name.empty()) impl->config.name = path.stem().string();
  CELSLM_TRY(impl->config.n_vocab, check_tokenizer(metadata, gguf.header.get()));
  CELSLM_TRY(impl->weights, Weights::load(std::move(file), gguf.header.get(), std::move(gguf.tensors), impl->config,
                                          options.repack, options.progress));
  CELSLM_TRY(impl->text, Text::load(path));
  impl->fingerprint = fingerprint_of(impl->config, *impl->weights, metadata);
  impl->rope = std::make_unique<const Rope>(impl->config.rope, impl->weights->rope_factors);
  return impl;
}

}  // namespace

Result<std::shared_ptr<const Model>> Model::load(const std::filesystem::path& path, const ModelOptions& options) {
  auto impl = load_impl(path, options);
  if (!impl && impl.error().message.starts_with(path.string())) return std::unexpected(impl.error());
  if (!impl) return wrap(std::move(impl).error(), path.string());
  return std::shared_ptr<const Model>(new Model(*std::move(impl)));
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
std::size_t Model::weight_bytes() const {
  return impl_->weights->size_bytes();
}

}  // namespace celslm
