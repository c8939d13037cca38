#include "bench/cpp/next_token.h"

#include <algorithm>
#include <numeric>

#include "model/backend.h"

namespace celslm {
namespace {

class Ours : public NextToken {
 public:
  explicit Ours(Engine& engine) : engine_(engine) {}

  Status start(int capacity) override {
    CELSLM_TRY(own_, KvSegment::create(engine_.model().config(), KvType::kF16, 0, capacity));
    return {};
  }

  Result<std::vector<float>> append(std::span<const Token> tokens, int n_rows) override {
    const int n = static_cast<int>(tokens.size());
    std::vector<float> out;
    for (int done = 0; done < n; done += kPrefillStep) {
      const int step = std::min(kPrefillStep, n - done);
      const int wanted = std::clamp(n_rows - (n - done - step), 0, step);
      CELSLM_TRY(const auto logits,
                 pass(tokens.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(step)), wanted));
      out.insert(out.end(), logits.begin(), logits.end());
    }
    return out;
  }

  void truncate(int n_tokens) override { own_->set_length(n_tokens); }

 private:
  Result<std::span<const float>> pass(std::span<const Token> tokens, int n_rows) {
    const int n = static_cast<int>(tokens.size());
    const SequenceChunk chunk{.own = own_, .own_length = own_->length(), .n_tokens = n};
    CELSLM_TRY(Hidden hidden, engine_.embed(tokens));
    CELSLM_CHECK_OK(engine_.run_layers(0, engine_.model().config().n_layers, {&chunk, 1}, hidden));
    own_->set_length(own_->length() + n);
    std::vector<int> rows(static_cast<std::size_t>(n_rows));
    std::iota(rows.begin(), rows.end(), n - n_rows);
    if (rows.empty()) return std::span<const float>();
    return engine_.logits(hidden, rows);
  }

  Engine& engine_;
  std::shared_ptr<KvSegment> own_;
};

class Llama : public NextToken {
 public:
  Llama(llama_model_ptr model, llama_context_ptr context)
      : model_(std::move(model)),
        context_(std::move(context)),
        n_vocab_(static_cast<std::size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model_.get())))) {}

  Status start(int capacity) override {
    const int room = static_cast<int>(llama_n_ctx(context_.get()));
    if (capacity > room) return fail(ErrorKind::kInvalid, "a sequence of {} tokens, in a context of {}", capacity, room);
    llama_memory_clear(memory(), true);
    length_ = 0;
    return {};
  }

  Result<std::vector<float>> append(std::span<const Token> tokens, int n_rows) override {
    const int n = static_cast<int>(tokens.size());
    llama_batch batch = llama_batch_init(n, 0, 1);
    for (int i = 0; i < n; ++i) {
      batch.token[i] = tokens[static_cast<std::size_t>(i)];
      batch.pos[i] = length_ + i;
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = i >= n - n_rows ? 1 : 0;
    }
    batch.n_tokens = n;
    const int status = llama_decode(context_.get(), batch);
    llama_batch_free(batch);
    if (status != 0) return fail(ErrorKind::kInternal, "llama_decode of {} tokens returned {}", n, status);
    length_ += n;
    const float* rows = llama_get_logits(context_.get());
    return std::vector<float>(rows, rows + static_cast<std::size_t>(n_rows) * n_vocab_);
  }

  void truncate(int n_tokens) override {
    llama_memory_seq_rm(memory(), 0, n_tokens, -1);
    length_ = n_tokens;
  }

 private:
  llama_memory_t memory() const { return llama_get_memory(context_.get()); }

  const llama_model_ptr model_;
  const llama_context_ptr context_;
  const std::size_t n_vocab_;
  int length_ = 0;
};

}  // namespace

std::unique_ptr<NextToken> ours(Engine& engine) {
  return std::make_unique<Ours>(engine);
}

Result<std::unique_ptr<NextToken>> llama(const std::filesystem::path& gguf, const LlamaOptions& options) {
  CELSLM_CHECK_OK(CpuBackend::get());
  llama_model_ptr model(llama_model_load_from_file(gguf.c_str(), llama_model_default_params()));
  if (!model) return fail(ErrorKind::kInvalid, "libllama cannot load {}", gguf.string());
  llama_context_params params = llama_context_default_params();
  params.n_ctx = params.n_batch = static_cast<std::uint32_t>(options.n_context);
  params.n_threads = params.n_threads_batch = options.n_threads;
  if (options.exact) {
    params.type_k = params.type_v = GGML_TYPE_F32;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  }
  llama_context_ptr context(llama_init_from_model(model.get(), params));
  if (!context)
    return fail(ErrorKind::kInvalid, "libllama cannot create a context of {} tokens for {}", options.n_context,
                gguf.string());
  return std::make_unique<Llama>(std::move(model), std::move(context));
}

}  // namespace celslm
