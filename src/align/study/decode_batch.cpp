#include "align/study/decode_batch.h"

#include <algorithm>
#include <array>

#include "model/numeric/logits.h"

namespace celslm {
namespace {

constexpr std::size_t kLeastShared = 4;  // tokens that are worth a pass of their own
constexpr int kTopK = 40;
constexpr float kTopP = 0.95F;

}  // namespace

std::vector<TokenLogprob> top_log_probs(std::span<const float> logits, int n) {
  const auto better = [](const TokenLogprob& a, const TokenLogprob& b) {
    return a.logprob != b.logprob ? a.logprob > b.logprob : a.token < b.token;
  };
  std::vector<TokenLogprob> heap;  // its front is the worst of the best so far
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const bool full = heap.size() == static_cast<std::size_t>(n);
    if (full && logits[i] <= heap.front().logprob) continue;
    if (full) {
      std::ranges::pop_heap(heap, better);
      heap.pop_back();
    }
    heap.push_back({.token = static_cast<Token>(i), .logprob = logits[i]});
    std::ranges::push_heap(heap, better);
  }
  std::ranges::sort(heap, better);
  const float log_sum = log_sum_exp(logits);
  for (TokenLogprob& one : heap) one.logprob -= log_sum;
  return heap;
}

DecodeBatch::DecodeBatch(Engine& engine, std::shared_ptr<KvSegment> context, std::vector<DecodeTurn> turns)
    : engine_(engine),
      context_(std::move(context)),
      context_length_(context_ ? context_->length() : 0),
      turns_(std::move(turns)),
      base_(context_) {}

DecodeBatch::~DecodeBatch() {
  if (context_) context_->set_length(context_length_);
}

Result<bool> DecodeBatch::step() {
  if (!begun_) {
    begun_ = true;
    shared_ = common_beginning();
    if (shared_ > 0) {
      CELSLM_CHECK_OK(read_beginning());
      return false;
    }
  }
  if (read_ < turns_.size()) {
    CELSLM_CHECK_OK(read_prompts());
    return false;
  }
  return decode();
}

// At least one token is left to every prompt: its logits are needed.
std::size_t DecodeBatch::common_beginning() const {
  if (turns_.size() < 2) return 0;
  std::size_t common = turns_.front().prompt.size();
  for (const DecodeTurn& turn : turns_) {
    const auto differ = std::ranges::mismatch(turns_.front().prompt, turn.prompt).in1;
    common = std::min({common, static_cast<std::size_t>(differ - turns_.front().prompt.begin()), turn.prompt.size() - 1});
  }
  if (context_) common = std::min(common, static_cast<std::size_t>(context_->capacity() - context_length_));
  common = std::min<std::size_t>(common, kPrefillStep);
  return common < kLeastShared ? 0 : common;
}

Status DecodeBatch::read_beginning() {
  if (!base_) {
    CELSLM_TRY(base_, new_segment(0, shared_));
  }
  const std::array chunk{SequenceChunk{.own = base_, .own_length = base_->length(), .n_tokens = static_cast<int>(shared_)}};
  CELSLM_CHECK_OK(engine_.forward(std::span(turns_.front().prompt).first(shared_), chunk).transform([](auto) {}));
  tokens_ += static_cast<std::int64_t>(shared_);
  return {};
}

// Prompts together up to kPrefillStep tokens.
Status DecodeBatch::read_prompts() {
  std::vector<Token> tokens;
  std::vector<SequenceChunk> chunks;
  const std::size_t first = read_;
  for (; read_ < turns_.size(); ++read_) {
    const DecodeTurn& turn = turns_[read_];
    const auto rest = std::span(turn.prompt).subspan(shared_);
    if (!chunks.empty() && tokens.size() + rest.size() > kPrefillStep) break;
    const std::size_t reply = std::max(static_cast<std::size_t>(turn.limit), turn.forced.size());
    CELSLM_TRY(auto own, new_segment(base_length(), rest.size() + reply));
    chunks.push_back({.context = base_, .own = std::move(own), .n_tokens = static_cast<int>(rest.size())});
    tokens.insert(tokens.end(), rest.begin(), rest.end());
  }
  CELSLM_TRY(const auto logits, engine_.forward(tokens, chunks));
  tokens_ += static_cast<std::int64_t>(tokens.size());
  for (std::size_t i = 0; i < chunks.size(); ++i) CELSLM_CHECK_OK(begin_sequences(first + i, chunks[i].own, row(logits, i)));
  return {};
}

Status DecodeBatch::begin_sequences(std::size_t turn, const std::shared_ptr<KvSegment>& prompt,
                                    std::span<const float> logits) {
  for (std::size_t i = 0; i < turns_[turn].continuations.size(); ++i) {
    CELSLM_TRY(Sequence sequence, new_sequence(turn, i));
    sequence.own = prompt;
    if (i > 0) {
      CELSLM_TRY(sequence.own, new_segment(prompt->first_position(), static_cast<std::size_t>(prompt->capacity())));
      sequence.own->copy_from(*prompt, prompt->length());
    }
    choose(sequence, logits);
    sequences_.push_back(std::move(sequence));
  }
  return {};
}

Result<DecodeBatch::Sequence> DecodeBatch::new_sequence(std::size_t turn, std::size_t continuation) {
  Sequence out{.turn = turn, .continuation = continuation};
  const Continuation& how = turns_[turn].continuations[continuation];
  if (how.temperature > 0.0F) {
    SamplerOptions options{.temperature = how.temperature, .seed = how.seed};
    if (!how.wide) {
      options.top_k = kTopK;
      options.top_p = kTopP;
    }
    CELSLM_TRY(out.sampler, Sampler::create(engine_.model().text(), options));
  }
  return out;
}

void DecodeBatch::choose(Sequence& sequence, std::span<const float> logits) {
  const DecodeTurn& turn = turns_[sequence.turn];
  DecodedReply& reply = sequence.reply;
  Token next = 0;
  if (!turn.forced.empty()) {
    next = turn.forced[reply.tokens.size()];
  } else {
    next = sequence.sampler ? sequence.sampler->sample(logits).token : static_cast<Token>(argmax(logits));
  }
  reply.tokens.push_back(next);
  if (turn.continuations[sequence.continuation].teacher) reply.top.push_back(top_log_probs(logits, kTeacherTop));
  reply.ended = engine_.model().text().ends_generation(next);
  const std::size_t limit = turn.forced.empty() ? static_cast<std::size_t>(turn.limit) : turn.forced.size();
  sequence.done = reply.tokens.size() >= limit || (turn.forced.empty() && reply.ended);
  if (sequence.done) sequence.own.reset();
}

Result<bool> DecodeBatch::decode() {
  std::vector<Sequence*> live;
  std::vector<Token> tokens;
  std::vector<SequenceChunk> chunks;
  for (Sequence& sequence : sequences_) {
    if (sequence.done) continue;
    live.push_back(&sequence);
    tokens.push_back(sequence.reply.tokens.back());
    chunks.push_back({.context = base_, .own = sequence.own, .own_length = sequence.own->length(), .n_tokens = 1});
  }
  if (live.empty()) return true;
  CELSLM_TRY(const auto logits, engine_.forward(tokens, chunks));
  tokens_ += static_cast<std::int64_t>(tokens.size());
  for (std::size_t i = 0; i < live.size(); ++i) choose(*live[i], row(logits, i));
  return std::ranges::all_of(sequences_, &Sequence::done);
}

std::vector<std::vector<DecodedReply>> DecodeBatch::take() {
  std::vector<std::vector<DecodedReply>> out(turns_.size());
  for (Sequence& sequence : sequences_) out[sequence.turn].push_back(std::move(sequence.reply));
  return out;
}

Result<std::shared_ptr<KvSegment>> DecodeBatch::new_segment(int first_position, std::size_t tokens) const {
  return KvSegment::create(engine_.model().config(), KvType::kF16, first_position, static_cast<int>(tokens));
}

std::span<const float> DecodeBatch::row(std::span<const float> logits, std::size_t i) const {
  const auto width = static_cast<std::size_t>(engine_.model().config().n_vocab);
  return logits.subspan(i * width, width);
}

}  // namespace celslm
