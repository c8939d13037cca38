#include "model/engine/foreign_engine.h"

#include <algorithm>

#include "model/engine/pass.h"

namespace celslm {
namespace {

// Token ids are below 2^24, so that a float holds each exactly.
std::vector<Token> tokens_of(const Hidden& hidden) {
  std::vector<Token> out;
  out.reserve(hidden.values.size());
  for (const float value : hidden.values) out.push_back(static_cast<Token>(value));
  return out;
}

}  // namespace

Result<std::unique_ptr<ForeignEngine>> ForeignEngine::create(std::shared_ptr<const Model> model,
                                                             const EngineOptions& options) {
  CELSLM_TRY(auto llama, LlamaContext::create(model->foreign(), {.n_threads = options.n_threads,
                                                                 .n_tokens = options.foreign.n_tokens,
                                                                 .n_sequences = options.foreign.n_sequences}));
  return std::unique_ptr<ForeignEngine>(new ForeignEngine(std::move(model), std::move(llama)));
}

Status ForeignEngine::check_tokens(std::span<const Token> tokens) const {
  const int n_vocab = model_->config().n_vocab;
  const auto unknown = std::ranges::find_if(tokens, [&](Token t) { return t < 0 || t >= n_vocab; });
  if (tokens.empty()) return fail(ErrorKind::kInvalid, "a batch without tokens");
  if (unknown == tokens.end()) return {};
  return fail(ErrorKind::kInvalid, "token {} is not in the vocabulary of {}", *unknown, n_vocab);
}

Result<Hidden> ForeignEngine::embed(std::span<const Token> tokens) const {
  CELSLM_CHECK_OK(check_tokens(tokens));
  return Hidden{.values = {tokens.begin(), tokens.end()}, .n_tokens = static_cast<int>(tokens.size())};
}

// The sequence that the chunk's rows go behind: its own, or a new one that begins with what it has of its context.
Result<LlamaSequence*> ForeignEngine::sequence_for(const SequenceChunk& chunk) {
  const int expected = chunk.own->first_position() + chunk.own_length;
  if (const auto& own = chunk.own->foreign()) {
    CELSLM_TRY(LlamaSequence * sequence, llama_->sequence_of(*own));
    if (sequence->n_tokens() == expected) return sequence;
    // Rows behind own_length are what an earlier batch left that did not end well.
    if (sequence->n_tokens() < expected)
      return fail(ErrorKind::kInternal, "a sequence of {} tokens; expected {}", sequence->n_tokens(), expected);
    CELSLM_TRY(auto beginning, llama_->beginning(*sequence, expected));
    chunk.own->set_foreign(std::move(beginning));
  } else if (chunk.context == nullptr) {
    CELSLM_TRY(auto sequence, llama_->new_sequence());
    chunk.own->set_foreign(std::move(sequence));
  } else {
    if (!chunk.context->foreign()) return fail(ErrorKind::kInternal, "a context without KV");
    CELSLM_TRY(LlamaSequence * context, llama_->sequence_of(*chunk.context->foreign()));
    CELSLM_TRY(auto sequence, llama_->beginning(*context, chunk.own->first_position()));
    chunk.own->set_foreign(std::move(sequence));
  }
  return llama_->sequence_of(*chunk.own->foreign());
}

Status ForeignEngine::decode(std::span<const Token> tokens, std::span<const SequenceChunk> batch) {
  CELSLM_CHECK_OK(check_tokens(tokens));
  CELSLM_CHECK_OK(check_batch(model_->config(), batch, static_cast<int>(tokens.size())));
  std::vector<LlamaContext::Chunk> chunks;
  for (const SequenceChunk& chunk : batch) {
    CELSLM_TRY(LlamaSequence * sequence, sequence_for(chunk));
    const auto n_tokens = static_cast<std::size_t>(chunk.n_tokens);
    chunks.push_back({.sequence = sequence, .tokens = tokens.first(n_tokens), .wants_logits = true});
    tokens = tokens.subspan(n_tokens);
  }
  return llama_->decode(chunks);
}

Status ForeignEngine::run_layers(int first, int last, std::span<const SequenceChunk> batch, const Hidden& hidden) {
  if (first == last) return {};
  if (first != 0 || last != 1) return fail(ErrorKind::kInvalid, "layers [{}, {}) of a model that has 1", first, last);
  return decode(tokens_of(hidden), batch);
}

Result<std::span<const float>> ForeignEngine::logits(const Hidden& hidden, std::span<const int> rows) const {
  const auto n_vocab = static_cast<std::size_t>(model_->config().n_vocab);
  const std::span<const float> all = llama_->logits();
  if (rows.size() != 1 || rows.front() != hidden.n_tokens - 1 || all.size() < n_vocab)
    return fail(ErrorKind::kInvalid, "a model that libllama runs has logits of a batch's last row only");
  return all.last(n_vocab);
}

Result<std::span<const float>> ForeignEngine::forward(std::span<const Token> tokens, std::span<const SequenceChunk> batch) {
  CELSLM_CHECK_OK(decode(tokens, batch));
  for (const SequenceChunk& chunk : batch) chunk.own->set_length(chunk.own_length + chunk.n_tokens);
  return llama_->logits();
}

Result<Bytes> ForeignEngine::state(const KvSegment& segment) {
  if (!segment.foreign()) return fail(ErrorKind::kInternal, "a context without KV");
  CELSLM_TRY(const LlamaSequence* sequence, llama_->sequence_of(*segment.foreign()));
  return llama_->state(*sequence);
}

}  // namespace celslm
