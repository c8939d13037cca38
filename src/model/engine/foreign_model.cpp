#include "model/engine/foreign_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "model/architecture.h"
#include "model/engine/model_impl.h"

namespace celslm {
namespace {

// Limits of ModelConfig for what depends on them: products of sizes, and floats that hold token ids.
constexpr int kMostContext = 1 << 24;
constexpr std::uint64_t kMostTokenBytes = 1U << 24;

// As one layer of one head: K and V, as f16, take as many bytes as libllama's KV of a token.
ModelConfig as_one_layer(const LlamaModel& llama) {
  ModelConfig out;
  out.n_layers = 1;
  out.n_embd = 1;
  out.n_heads = out.n_kv_heads = 1;
  out.layers.resize(1);
  out.head_dim = static_cast<int>(std::clamp<std::uint64_t>((llama.token_bytes() + 3) / 4, 2, kMostTokenBytes));
  out.n_vocab = llama.n_vocab();
  out.n_ctx_train = std::min(llama.n_ctx_train(), kMostContext);
  return out;
}

Hash256 hash_of_files(std::span<const GgufPart> parts) {
  Hasher hasher;
  for (const GgufPart& part : parts) hasher.update_u64(part.file->bytes().size()).update(part.file->bytes());
  return hasher.finish();
}

}  // namespace

std::string foreign_architecture(const GgufMetadata& metadata) {
  const auto name = metadata.text("general.architecture");
  if (!name) return {};
  if (find_architecture(*name) != nullptr) return {};
  return fmt::format("no graph here for the architecture '{}'", *name);
}

Result<std::unique_ptr<Model::Impl>> load_foreign(const std::filesystem::path& path, std::span<const GgufPart> parts,
                                                  const ModelOptions& options, std::string reason) {
  const GgufMetadata metadata(parts.front().header.get());
  auto impl = std::make_unique<Model::Impl>();
  impl->foreign_reason = std::move(reason);
  CELSLM_TRY(impl->foreign, LlamaModel::load(path, options.progress));
  impl->config = as_one_layer(*impl->foreign);
  CELSLM_TRY(impl->config.name, metadata.text("general.name", ""));
  if (impl->config.name.empty()) impl->config.name = path.stem().string();
  CELSLM_TRY(impl->text, Text::load(path));
  CELSLM_TRY(const std::string architecture, metadata.text("general.architecture"));
  CELSLM_TRY(const std::string build, libllama_build());
  impl->fingerprint = {.architecture = architecture,
                       .n_layers = 1,
                       .n_kv_heads = static_cast<std::uint32_t>(impl->foreign->sequence_bytes() / 1024 + 1),
                       .head_dim = static_cast<std::uint32_t>(std::max<std::uint64_t>(1, impl->foreign->token_bytes())),
                       .rope = build + ", KV f16",
                       .weights = hash_of_files(parts),
                       .tokenizer = metadata.tokenizer_hash(),
                       .arithmetic = Arithmetic::kLibllama};
  return impl;
}

}  // namespace celslm
