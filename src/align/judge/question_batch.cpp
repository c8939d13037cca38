#include "align/judge/question_batch.h"

#include <algorithm>

#include "align/judge/context_decoder.h"
#include "align/map/index_range.h"
#include "model/numeric/logits.h"

namespace celslm {
namespace {

// Rows of logits at a time: with a vocabulary of 150,000 these are 40 MB.
constexpr int kLogitRows = 64;

// Questions that share each step, all behind one context.
class Batch {
 public:
  Batch(Engine& engine, std::shared_ptr<const KvSegment> context, std::span<const AskedQuestion> questions, int limit)
      : engine_(engine),
        context_(std::move(context)),
        questions_(questions),
        limit_(static_cast<std::size_t>(limit)),
        answers_(questions.size()),
        next_(questions.size()) {}

  Result<std::vector<AnsweredQuestion>> run() {
    CELSLM_CHECK_OK(read_prompts());
    CELSLM_CHECK_OK(follow_gold());
    CELSLM_CHECK_OK(decode());
    return std::move(answers_);
  }

 private:
  std::span<const float> row(std::span<const float> logits, std::size_t i) const {
    const auto width = static_cast<std::size_t>(engine_.model().config().n_vocab);
    return logits.subspan(i * width, width);
  }

  SequenceChunk chunk_of(std::size_t i, std::size_t n_tokens) const {
    return {.context = context_, .own = own_[i], .own_length = own_[i]->length(), .n_tokens = static_cast<int>(n_tokens)};
  }

  // Afterwards own_ holds each prompt's KV and next_ the first token of each reply.
  Status read_prompts() {
    std::vector<Token> tokens;
    std::vector<SequenceChunk> chunks;
    for (const AskedQuestion& question : questions_) {
      if (question.prompt.empty()) return fail(ErrorKind::kInvalid, "a question without tokens");
      const std::size_t capacity = question.prompt.size() + std::max(limit_, question.gold.size());
      CELSLM_TRY(auto own, KvSegment::create(engine_.model().config(), KvType::kF16,
                                             context_ ? context_->next_position() : 0, static_cast<int>(capacity)));
      own_.push_back(std::move(own));
      chunks.push_back(chunk_of(own_.size() - 1, question.prompt.size()));
      tokens.insert(tokens.end(), question.prompt.begin(), question.prompt.end());
    }
    CELSLM_TRY(const auto logits, engine_.forward(tokens, chunks));
    for (std::size_t i = 0; i < questions_.size(); ++i) {
      next_[i] = static_cast<Token>(argmax(row(logits, i)));
      if (!questions_[i].gold.empty())
        answers_[i].gold_log_p = -negative_log_likelihood(row(logits, i), questions_[i].gold.front());
    }
    return {};
  }

  // Teacher-forces the correct answers. The lengths of own_ stay, so that decoding overwrites these rows.
  Status follow_gold() {
    std::vector<Token> tokens;
    std::vector<SequenceChunk> chunks;
    std::vector<std::pair<std::size_t, Token>> expected;  // of each row: whose answer it is, and the token that follows
    for (std::size_t i = 0; i < questions_.size(); ++i) {
      const std::vector<Token>& gold = questions_[i].gold;
      if (gold.size() < 2) continue;
      tokens.insert(tokens.end(), gold.begin(), gold.end() - 1);
      chunks.push_back(chunk_of(i, gold.size() - 1));
      for (auto token = gold.begin() + 1; token != gold.end(); ++token) expected.emplace_back(i, *token);
    }
    if (tokens.empty()) return {};
    CELSLM_TRY(Hidden hidden, engine_.embed(tokens));
    CELSLM_CHECK_OK(engine_.run_layers(0, engine_.model().config().n_layers, chunks, hidden));
    const std::vector<int> rows = index_range(hidden.n_tokens);
    for (std::size_t first = 0; first < rows.size(); first += kLogitRows) {
      const auto some = std::span(rows).subspan(first, std::min<std::size_t>(kLogitRows, rows.size() - first));
      CELSLM_TRY(const auto logits, engine_.logits(hidden, some));
      for (std::size_t i = 0; i < some.size(); ++i) {
        const auto& [question, token] = expected[first + i];
        answers_[question].gold_log_p -= negative_log_likelihood(row(logits, i), token);
      }
    }
    return {};
  }

  Status decode() {
    for (;;) {
      std::vector<std::size_t> live;
      std::vector<Token> tokens;
      std::vector<SequenceChunk> chunks;
      for (std::size_t i = 0; i < next_.size(); ++i) {
        std::vector<Token>& reply = answers_[i].reply;
        if (reply.size() == limit_ || engine_.model().text().ends_generation(next_[i])) continue;
        reply.push_back(next_[i]);
        if (reply.size() == limit_) continue;
        live.push_back(i);
        tokens.push_back(next_[i]);
        chunks.push_back(chunk_of(i, 1));
      }
      if (live.empty()) return {};
      CELSLM_TRY(const auto logits, engine_.forward(tokens, chunks));
      for (std::size_t i = 0; i < live.size(); ++i) next_[live[i]] = static_cast<Token>(argmax(row(logits, i)));
    }
  }

  Engine& engine_;
  const std::shared_ptr<const KvSegment> context_;
  const std::span<const AskedQuestion> questions_;
  const std::size_t limit_;
  std::vector<AnsweredQuestion> answers_;
  std::vector<Token> next_;
  std::vector<std::shared_ptr<KvSegment>> own_;
};

// How many of the first questions are taken together.
std::size_t batch_size(std::span<const AskedQuestion> questions) {
  std::size_t tokens = 0;
  std::size_t n = 0;
  for (; n < questions.size(); ++n) {
    tokens += questions[n].prompt.size() + questions[n].gold.size();
    if (n > 0 && tokens > kPrefillStep) break;
  }
  return n;
}

}  // namespace

Result<std::vector<AnsweredQuestion>> answer_questions(Engine& engine, const std::shared_ptr<const KvSegment>& context,
                                                       std::span<const AskedQuestion> questions, int limit) {
  std::vector<AnsweredQuestion> out;
  while (!questions.empty()) {
    const std::size_t n = batch_size(questions);
    CELSLM_TRY(auto some, Batch(engine, context, questions.first(n), limit).run());
    std::ranges::move(some, std::back_inserter(out));
    questions = questions.subspan(n);
  }
  return out;
}

}  // namespace celslm
