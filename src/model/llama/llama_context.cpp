#include "model/llama/llama_context.h"

#include <array>
#include <exception>
#include <utility>

#include "core/mutex.h"
#include "model/llama/llama_impl.h"

namespace celslm {
namespace {

// A state on its way into a context, and the sequence that it has become there.
class StateKv final : public ForeignKv {
 public:
  StateKv(Bytes from, std::vector<Token> of) : state(std::move(from)), tokens(std::move(of)) {}
  std::shared_ptr<ForeignKv> first(int n_tokens) override { return sequence ? sequence->first(n_tokens) : nullptr; }

  Bytes state;
  const std::vector<Token> tokens;
  std::shared_ptr<LlamaSequence> sequence;  // null: not read yet
};

}  // namespace

// Which of libllama's sequence ids are free. Sequences outlive the context here and there: it is then gone from this.
struct LlamaSequence::Places {
  Mutex mutex;
  llama_context* context CELSLM_GUARDED_BY(mutex) = nullptr;  // null: has ended
  std::vector<int> free CELSLM_GUARDED_BY(mutex);
  std::vector<int> left CELSLM_GUARDED_BY(mutex);  // whose rows libllama still has
  bool can_cut = false;

  // An id without rows, or -1. On the context's thread.
  int take() {
    const MutexLock lock(mutex);
    if (context == nullptr) return -1;
    for (const int id : left) {
      llama_memory_seq_rm(llama_get_memory(context), id, -1, -1);
      free.push_back(id);
    }
    left.clear();
    if (free.empty()) return -1;
    const int id = free.back();
    free.pop_back();
    return id;
  }
  void leave(int id) {
    const MutexLock lock(mutex);
    left.push_back(id);
  }
  // Forgets rows from the n-th on. False where the memory cannot go back: then all of them.
  bool cut(int id, int n_tokens) {
    const MutexLock lock(mutex);
    llama_memory_t memory = llama_get_memory(context);
    if (llama_memory_seq_rm(memory, id, n_tokens, -1)) return true;
    llama_memory_seq_rm(memory, id, -1, -1);
    return false;
  }
  void copy(int from, int to, int n_tokens) {
    const MutexLock lock(mutex);
    llama_memory_seq_cp(llama_get_memory(context), from, to, -1, n_tokens);
  }
};

LlamaSequence::LlamaSequence(std::shared_ptr<Places> places, int id) : places_(std::move(places)), id_(id) {}

LlamaSequence::~LlamaSequence() {
  places_->leave(id_);
}

std::shared_ptr<ForeignKv> LlamaSequence::first(int n) {
  if (n > n_tokens() || (n < n_tokens() && !places_->can_cut)) return nullptr;
  const int id = places_->take();
  if (id < 0) return nullptr;
  std::shared_ptr<LlamaSequence> out(new LlamaSequence(places_, id));
  places_->copy(id_, id, n == n_tokens() ? -1 : n);
  out->tokens_.assign(tokens_.begin(), tokens_.begin() + n);
  return out;
}

struct LlamaContext::Impl {
  // A part of a batch that libllama computes at once.
  struct Rows {
    std::vector<llama_token> tokens;
    std::vector<llama_pos> positions;
    std::vector<std::int32_t> n_ids;
    std::vector<llama_seq_id> ids;
    std::vector<llama_seq_id*> id_lists;
    std::vector<std::int8_t> wanted;

    void add(Token token, int position, int id, bool wants_logits) {
      tokens.push_back(token);
      positions.push_back(position);
      ids.push_back(id);
      wanted.push_back(wants_logits ? 1 : 0);
    }
    llama_batch batch() {
      n_ids.assign(tokens.size(), 1);
      id_lists.clear();
      for (llama_seq_id& id : ids) id_lists.push_back(&id);
      return {.n_tokens = static_cast<std::int32_t>(tokens.size()),
              .token = tokens.data(),
              .embd = nullptr,
              .pos = positions.data(),
              .n_seq_id = n_ids.data(),
              .seq_id = id_lists.data(),
              .logits = wanted.data()};
    }
  };

  Status compute(Rows& rows) {
    int status = 0;
    try {
      status = llama_decode(context.get(), rows.batch());
    } catch (const std::exception& error) {
      return fail(ErrorKind::kInternal, "libllama: {}", error.what());
    }
    if (status == 1) return fail(ErrorKind::kOverloaded, "libllama's memory for KV is used up; try again later");
    if (status != 0) return fail(ErrorKind::kInternal, "libllama's decode() returned {}", status);
    for (std::size_t i = 0; i < rows.wanted.size(); ++i) {
      if (rows.wanted[i] == 0) continue;
      const float* row = llama_get_logits_ith(context.get(), static_cast<std::int32_t>(i));
      if (row == nullptr) return fail(ErrorKind::kInternal, "libllama gave no logits for row {}", i);
      logits.insert(logits.end(), row, row + n_vocab);
    }
    rows = {};
    return {};
  }

  Status read(LlamaSequence& into, const StateKv& kv) {
    std::size_t used = 0;
    try {
      used = llama_state_seq_set_data_ext(context.get(), reinterpret_cast<const std::uint8_t*>(kv.state.data()),
                                          kv.state.size(), into.id_, LLAMA_STATE_SEQ_FLAGS_NONE);
    } catch (const std::exception&) {
      used = 0;
    }
    const int last = llama_memory_seq_pos_max(llama_get_memory(context.get()), into.id_);
    if (used != kv.state.size() || last + 1 != static_cast<int>(kv.tokens.size()))
      return fail(ErrorKind::kMismatch, "libllama does not accept the state of a context");
    into.tokens_ = kv.tokens;
    return {};
  }

  std::shared_ptr<const LlamaModel> model;
  std::shared_ptr<LlamaSequence::Places> places = std::make_shared<LlamaSequence::Places>();
  LlamaContextPtr context;
  std::size_t n_vocab = 0;
  std::vector<float> logits;
};

Result<std::unique_ptr<LlamaContext>> LlamaContext::create(std::shared_ptr<const LlamaModel> model,
                                                           const LlamaLimits& limits) {
  const auto most = static_cast<int>(llama_max_parallel_sequences());
  if (limits.n_tokens < 1 || limits.n_sequences < 1 || limits.n_sequences > most)
    return fail(ErrorKind::kInvalid, "{} tokens in {} sequences for libllama; 1 to {} sequences are possible",
                limits.n_tokens, limits.n_sequences, most);
  auto impl = std::make_unique<Impl>();
  const auto params = llama_params(static_cast<std::uint32_t>(limits.n_tokens),
                                   static_cast<std::uint32_t>(limits.n_sequences), limits.n_threads);
  try {
    impl->context.reset(llama_init_from_model(model->impl().model.get(), params));
  } catch (const std::exception&) {
    impl->context.reset();
  }
  if (!impl->context)
    return fail(ErrorKind::kOverloaded, "libllama has no memory for the KV of {} tokens: allow less (--kv-budget)",
                limits.n_tokens);
  impl->n_vocab = static_cast<std::size_t>(model->n_vocab());
  {
    const MutexLock lock(impl->places->mutex);
    impl->places->context = impl->context.get();
    impl->places->can_cut = model->can_cut();
    for (int id = limits.n_sequences - 1; id >= 0; --id) impl->places->free.push_back(id);
  }
  impl->model = std::move(model);
  return std::unique_ptr<LlamaContext>(new LlamaContext(std::move(impl)));
}

LlamaContext::LlamaContext(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

LlamaContext::~LlamaContext() {
  const MutexLock lock(impl_->places->mutex);
  impl_->places->context = nullptr;
}

const LlamaModel& LlamaContext::model() const {
  return *impl_->model;
}

Result<std::shared_ptr<LlamaSequence>> LlamaContext::new_sequence() {
  const int id = impl_->places->take();
  if (id < 0) return fail(ErrorKind::kOverloaded, "all sequences of libllama's memory are taken; try again later");
  return std::shared_ptr<LlamaSequence>(new LlamaSequence(impl_->places, id));
}

Result<LlamaSequence*> LlamaContext::sequence_of(ForeignKv& kv) {
  if (auto* sequence = dynamic_cast<LlamaSequence*>(&kv)) {
    if (sequence->places_ != impl_->places) return fail(ErrorKind::kInternal, "KV of another context of libllama");
    return sequence;
  }
  auto* state = dynamic_cast<StateKv*>(&kv);
  if (state == nullptr) return fail(ErrorKind::kInternal, "KV that is not libllama's");
  if (state->sequence) return state->sequence.get();
  CELSLM_TRY(auto sequence, new_sequence());
  if (!impl_->read(*sequence, *state)) {
    CELSLM_TRY(sequence, new_sequence());
    CELSLM_CHECK_OK(decode(std::array{Chunk{.sequence = sequence.get(), .tokens = state->tokens}}));
  }
  state->state = {};
  state->sequence = std::move(sequence);
  return state->sequence.get();
}

Result<std::shared_ptr<LlamaSequence>> LlamaContext::beginning(LlamaSequence& of, int n_tokens) {
  if (n_tokens > of.n_tokens()) return fail(ErrorKind::kInternal, "{} tokens of a sequence of {}", n_tokens, of.n_tokens());
  if (auto shared = of.first(n_tokens)) return std::static_pointer_cast<LlamaSequence>(std::move(shared));
  CELSLM_TRY(auto out, new_sequence());
  const std::span<const Token> tokens = std::span(of.tokens_).first(static_cast<std::size_t>(n_tokens));
  CELSLM_CHECK_OK(decode(std::array{Chunk{.sequence = out.get(), .tokens = tokens}}));
  return out;
}

// Parts of a batch before the one that failed have left rows that the sequences do not know of.
Status LlamaContext::decode(std::span<const Chunk> chunks) {
  Status status = decode_parts(chunks);
  for (const Chunk& chunk : chunks) {
    LlamaSequence& sequence = *chunk.sequence;
    if (status) {
      sequence.tokens_.insert(sequence.tokens_.end(), chunk.tokens.begin(), chunk.tokens.end());
    } else if (!sequence.places_->cut(sequence.id_, sequence.n_tokens())) {
      sequence.tokens_.clear();
    }
  }
  return status;
}

Status LlamaContext::decode_parts(std::span<const Chunk> chunks) {
  impl_->logits.clear();
  Impl::Rows rows;
  for (const Chunk& chunk : chunks) {
    LlamaSequence& sequence = *chunk.sequence;
    for (std::size_t i = 0; i < chunk.tokens.size(); ++i) {
      const bool wanted = chunk.wants_logits && i + 1 == chunk.tokens.size();
      rows.add(chunk.tokens[i], sequence.n_tokens() + static_cast<int>(i), sequence.id_, wanted);
      if (rows.tokens.size() == kLlamaBatch) CELSLM_CHECK_OK(impl_->compute(rows));
    }
  }
  if (!rows.tokens.empty()) CELSLM_CHECK_OK(impl_->compute(rows));
  return {};
}

std::span<const float> LlamaContext::logits() const {
  return impl_->logits;
}

Result<Bytes> LlamaContext::state(const LlamaSequence& sequence) {
  llama_context* context = impl_->context.get();
  Bytes out(llama_state_seq_get_size_ext(context, sequence.id_, LLAMA_STATE_SEQ_FLAGS_NONE));
  const std::size_t written = llama_state_seq_get_data_ext(context, reinterpret_cast<std::uint8_t*>(out.data()), out.size(),
                                                           sequence.id_, LLAMA_STATE_SEQ_FLAGS_NONE);
  if (written == 0 || written != out.size())
    return fail(ErrorKind::kInternal, "libllama wrote {} bytes of a state of {}", written, out.size());
  return out;
}

std::shared_ptr<ForeignKv> kv_from_state(Bytes state, std::vector<Token> tokens) {
  return std::make_shared<StateKv>(std::move(state), std::move(tokens));
}

}  // namespace celslm
