#include "model/llama/llama_model.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <climits>
#include <exception>
#include <vector>

#include "core/file.h"
#include "core/hash.h"
#include "model/backend.h"
#include "model/llama/llama_impl.h"

namespace celslm {
namespace {

constexpr int kProbedTokens = 33;

using ModelPtr = std::unique_ptr<llama_model, LlamaWeightsDeleter>;

Result<ModelPtr> load_weights(const std::filesystem::path& path, const std::function<void(float)>& progress) {
  llama_model_params params = llama_model_default_params();
  std::array<ggml_backend_dev_t, 1> no_devices{};
  params.devices = no_devices.data();
  params.n_gpu_layers = 0;
  params.progress_callback = [](float part, void* call) {
    const auto& show = *static_cast<const std::function<void(float)>*>(call);
    if (show) show(part);
    return true;
  };
  params.progress_callback_user_data = const_cast<void*>(static_cast<const void*>(&progress));
  try {
    ModelPtr model(llama_model_load_from_file(path.c_str(), params));
    if (model) return model;
  } catch (const std::exception& error) {
    return fail(ErrorKind::kInvalid, "libllama does not load it: {}", error.what());
  }
  return fail(ErrorKind::kInvalid, "libllama does not load it: an architecture that it does not know, or a damaged file");
}

Status decode_some(llama_context* context, int n_tokens) {
  std::vector<llama_token> tokens(static_cast<std::size_t>(n_tokens));
  if (llama_decode(context, llama_batch_get_one(tokens.data(), n_tokens)) == 0) return {};
  return fail(ErrorKind::kInvalid, "libllama cannot compute with it");
}

// What a state takes tells what KV takes: libllama has no other way to ask for it.
Status measure(LlamaModel::Impl& impl) {
  const llama_model* model = impl.model.get();
  if (llama_model_has_encoder(model) || !llama_model_has_decoder(model))
    return fail(ErrorKind::kInvalid, "a model with an encoder: only models that generate text token by token are supported");
  const LlamaContextPtr context(llama_init_from_model(impl.model.get(), llama_params(256, 1, 1)));
  if (!context || llama_get_memory(context.get()) == nullptr)
    return fail(ErrorKind::kInvalid, "libllama does not generate text with it");
  CELSLM_CHECK_OK(decode_some(context.get(), 1));
  const std::size_t one = llama_state_seq_get_size_ext(context.get(), 0, LLAMA_STATE_SEQ_FLAGS_NONE);
  CELSLM_CHECK_OK(decode_some(context.get(), kProbedTokens - 1));
  const std::size_t many = llama_state_seq_get_size_ext(context.get(), 0, LLAMA_STATE_SEQ_FLAGS_NONE);
  impl.token_bytes = many > one ? (many - one) / (kProbedTokens - 1) : 0;
  impl.sequence_bytes = one > impl.token_bytes ? one - impl.token_bytes : 0;
  return {};
}

}  // namespace

Result<std::shared_ptr<const LlamaModel>> LlamaModel::load(const std::filesystem::path& path,
                                                           const std::function<void(float)>& progress) {
  CELSLM_CHECK_OK(CpuBackend::get().transform([](auto*) {}));
  auto impl = std::make_unique<Impl>();
  CELSLM_TRY(impl->model, load_weights(path, progress));
  try {
    CELSLM_CHECK_OK(measure(*impl));
  } catch (const std::exception& error) {
    return fail(ErrorKind::kInvalid, "libllama cannot compute with it: {}", error.what());
  }
  return std::shared_ptr<const LlamaModel>(new LlamaModel(std::move(impl)));
}

LlamaModel::LlamaModel(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LlamaModel::~LlamaModel() = default;

int LlamaModel::n_vocab() const {
  return llama_vocab_n_tokens(llama_model_get_vocab(impl_->model.get()));
}
int LlamaModel::n_ctx_train() const {
  const int n = llama_model_n_ctx_train(impl_->model.get());
  return n > 0 ? n : INT_MAX;
}
std::uint64_t LlamaModel::weight_bytes() const {
  return llama_model_size(impl_->model.get());
}
std::uint64_t LlamaModel::token_bytes() const {
  return impl_->token_bytes;
}
std::uint64_t LlamaModel::sequence_bytes() const {
  return impl_->sequence_bytes;
}
bool LlamaModel::can_cut() const {
  const llama_model* model = impl_->model.get();
  return !llama_model_is_recurrent(model) && !llama_model_is_hybrid(model) && llama_model_n_swa(model) == 0;
}

Result<std::string> libllama_build() {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<const void*>(&llama_model_load_from_file), &info) == 0 || info.dli_fname == nullptr)
    return fail(ErrorKind::kInternal, "the system does not tell where libllama lies");
  std::error_code error;
  const std::filesystem::path file = std::filesystem::canonical(info.dli_fname, error);
  if (error) return fail(ErrorKind::kIo, "{}: {}", info.dli_fname, error.message());
  CELSLM_TRY(const auto mapped, MappedFile::open(file));
  return fmt::format("{} {}", file.filename().string(), hash_of(mapped->bytes()).hex().substr(0, 16));
}

}  // namespace celslm
