#include "serve/batch_loop.h"

#include <algorithm>
#include <array>

namespace celslm {

// A request in the loop. The prompt passes through the layers in steps of options_.prompt_step tokens.
struct BatchLoop::Sequence {
  enum class Phase { kPrompt, kAnswer, kEnded };

  Sequence(std::shared_ptr<Generation> g, Sampler s, TimePoint now)
      : generation(std::move(g)), sampler(std::move(s)), assembler(generation->request.stop), submitted(now) {}

  const GenerationRequest& request() const { return generation->request; }
  int n_context() const { return request().context ? static_cast<int>(request().context->tokens.size()) : 0; }
  SequenceChunk chunk(int n_tokens) const {
    return {.context = request().context ? request().context->segment : nullptr,
            .own = own,
            .own_length = own->length(),
            .n_tokens = n_tokens};
  }

  std::shared_ptr<Generation> generation;
  Sampler sampler;
  TextAssembler assembler;
  std::shared_ptr<KvSegment> own;
  Phase phase = Phase::kPrompt;

  int prompt_done = 0;  // tokens of the prompt that passed all layers
  int layer = 0;        // layers that the step under way has passed
  Hidden hidden;        // of the step under way; empty between steps

  Token next = 0;  // the token to feed, already sent
  int produced = 0;

  TimePoint submitted;
  TimePoint started{};
  TimePoint context_ready{};
  TimePoint first_token{};
  Duration prefill{};
};

BatchLoop::BatchLoop(std::unique_ptr<Engine> engine, const Clock& clock, const BatchOptions& options, Log log)
    : engine_(std::move(engine)),
      clock_(clock),
      options_(options),
      log_(std::move(log)),
      compute_(*engine_),
      thread_([this](std::stop_token s) { run(s); }) {}

BatchLoop::~BatchLoop() {
  stop(std::chrono::milliseconds(0));
}

Result<std::shared_ptr<Generation>> BatchLoop::submit(GenerationRequest request) {
  const ModelConfig& config = engine_->model().config();
  const std::size_t used = request.prompt.size() + (request.context ? request.context->tokens.size() : 0);
  if (request.prompt.empty() || request.max_tokens < 1)
    return fail(ErrorKind::kInvalid, "a request needs a prompt and room for an answer");
  if (used + static_cast<std::size_t>(request.max_tokens) > static_cast<std::size_t>(config.n_ctx_train)) {
    return fail(ErrorKind::kInvalid, "{} tokens of prompt and {} of answer exceed the model's context of {}", used,
                request.max_tokens, config.n_ctx_train);
  }
  CELSLM_TRY(auto sampler, Sampler::create(engine_->model().text(), request.sampler));
  auto generation = std::make_shared<Generation>(std::move(request));
  auto sequence = std::make_unique<Sequence>(generation, std::move(sampler), clock_.now());

  const std::scoped_lock lock(mutex_);
  if (closed_) return fail(ErrorKind::kUnavailable, "this edge is shutting down");
  // Counted together: a burst comes before the loop has taken anyone from the queue to a free place.
  const int taken = stats_.running + static_cast<int>(queue_.size());
  if (taken >= options_.max_running + options_.max_queued) {
    return fail(ErrorKind::kOverloaded, "{} requests are running or waiting, as many as may be; try again later", taken);
  }
  queue_.push_back(std::move(sequence));
  stats_.queued = static_cast<int>(queue_.size());
  wake_ = true;
  woken_.notify_one();
  return generation;
}

void BatchLoop::wake() {
  const std::scoped_lock lock(mutex_);
  wake_ = true;
  woken_.notify_one();
}

void BatchLoop::stop(std::chrono::milliseconds grace) {
  {
    std::unique_lock lock(mutex_);
    closed_ = true;
    idle_.wait_for(lock, grace, [&] { return queue_.empty() && stats_.running == 0; });
  }
  thread_.request_stop();
  wake();
  if (thread_.joinable()) thread_.join();
}

BatchStats BatchLoop::stats() const {
  const std::scoped_lock lock(mutex_);
  return stats_;
}

void BatchLoop::run(std::stop_token stop) {
  while (!stop.stop_requested()) {
    if (step()) continue;
    std::unique_lock lock(mutex_);
    // Bounded, so that a cancelled request that waits for its context is noticed.
    woken_.wait_for(lock, std::chrono::milliseconds(100), [&] { return wake_ || stop.stop_requested(); });
    wake_ = false;
  }
  admit();
  for (const auto& sequence : running_) fail_sequence(*sequence, {ErrorKind::kCancelled, "this edge is shutting down"});
  const std::scoped_lock lock(mutex_);
  for (const auto& sequence : queue_)
    sequence->generation->put({.error = Error{ErrorKind::kCancelled, "this edge is shutting down"}});
  queue_.clear();
}

bool BatchLoop::step() {
  admit();
  drop_cancelled();
  bool worked = compute_contexts();
  worked |= advance_prompts();
  worked |= decode();
  remove_ended();
  const std::scoped_lock lock(mutex_);
  stats_.steps += worked ? 1 : 0;
  return worked;
}

void BatchLoop::admit() {
  const std::scoped_lock lock(mutex_);
  while (!queue_.empty() && static_cast<int>(running_.size()) < options_.max_running) {
    running_.push_back(std::move(queue_.front()));
    queue_.pop_front();
    running_.back()->started = clock_.now();
  }
  stats_.running = static_cast<int>(running_.size());
  stats_.queued = static_cast<int>(queue_.size());
}

void BatchLoop::drop_cancelled() {
  for (const auto& sequence : running_) {
    if (sequence->generation->cancelled() && sequence->phase != Sequence::Phase::kEnded)
      finish(*sequence, FinishReason::kCancelled);
  }
}

bool BatchLoop::compute_contexts() {
  for (const auto& sequence : running_) {
    const auto& context = sequence->request().context;
    if (!context) continue;
    if (const Status taken = compute_.take_up(context); !taken) fail_sequence(*sequence, taken.error());
  }
  if (compute_.idle()) return false;
  if (const auto failure = compute_.advance()) {
    for (const auto& sequence : running_) {
      if (sequence->request().context == failure->context) fail_sequence(*sequence, failure->error);
    }
  }
  return true;
}

bool BatchLoop::anyone_answering() const {
  return std::ranges::any_of(running_, [](const auto& s) { return s->phase == Sequence::Phase::kAnswer; });
}

bool BatchLoop::advance_prompts() {
  int budget = anyone_answering() || !compute_.idle() ? options_.busy_budget : 1 << 30;
  bool worked = false;
  for (const auto& sequence : running_) {
    if (sequence->phase != Sequence::Phase::kPrompt) continue;
    if (advance_prompt(*sequence, budget)) worked = true;
    if (worked && budget <= options_.busy_budget) break;  // one request's share per step; the list rotates
  }
  if (worked && running_.size() > 1) running_.splice(running_.end(), running_, running_.begin());
  return worked;
}

Status BatchLoop::begin_prompt_step(Sequence& sequence) {
  if (!sequence.own) {
    const GenerationRequest& request = sequence.request();
    const KvType type = request.context ? request.context->segment->type() : options_.kv_type;
    const int capacity = static_cast<int>(request.prompt.size()) + request.max_tokens;
    CELSLM_TRY(sequence.own, KvSegment::create(engine_->model().config(), type, sequence.n_context(), capacity));
  }
  const std::span<const Token> rest =
      std::span(sequence.request().prompt).subspan(static_cast<std::size_t>(sequence.prompt_done));
  CELSLM_TRY(sequence.hidden,
             engine_->embed(rest.first(std::min(rest.size(), static_cast<std::size_t>(options_.prompt_step)))));
  sequence.layer = 0;
  return {};
}

bool BatchLoop::advance_prompt(Sequence& sequence, int budget) {
  const int n_layers = engine_->model().config().n_layers;
  if (sequence.hidden.n_tokens == 0) {
    if (auto status = begin_prompt_step(sequence); !status) {
      fail_sequence(sequence, status.error());
      return true;
    }
  }
  const auto& context = sequence.request().context;
  const int ready = context ? context->ready_layers() : n_layers;
  const int affordable = sequence.layer + std::max(1, budget / sequence.hidden.n_tokens);
  const int last = std::min(ready, affordable);
  if (last <= sequence.layer) return false;

  const TimePoint before = clock_.now();
  if (ready == n_layers && sequence.context_ready == TimePoint{}) sequence.context_ready = before;
  const std::array chunk{sequence.chunk(sequence.hidden.n_tokens)};
  const Status status = engine_->run_layers(sequence.layer, last, chunk, sequence.hidden);
  sequence.prefill += clock_.now() - before;
  if (!status) {
    fail_sequence(sequence, status.error());
    return true;
  }
  sequence.layer = last;
  if (last == n_layers) finish_prompt(sequence);
  return true;
}

void BatchLoop::finish_prompt(Sequence& sequence) {
  const int n_tokens = sequence.hidden.n_tokens;
  sequence.own->set_length(sequence.own->length() + n_tokens);
  sequence.prompt_done += n_tokens;
  const bool whole = sequence.prompt_done == static_cast<int>(sequence.request().prompt.size());
  if (whole) {
    const std::array last{n_tokens - 1};
    const auto logits = engine_->logits(sequence.hidden, last);
    if (!logits) return fail_sequence(sequence, logits.error());
    {
      const std::scoped_lock lock(mutex_);
      stats_.prompt_tokens += static_cast<std::uint64_t>(sequence.prompt_done);
    }
    sequence.phase = Sequence::Phase::kAnswer;
    sequence.first_token = clock_.now();
    accept(sequence, *logits);
  }
  sequence.hidden = {};
}

bool BatchLoop::decode() {
  std::vector<Token> tokens;
  std::vector<SequenceChunk> batch;
  std::vector<Sequence*> members;
  for (const auto& sequence : running_) {
    if (sequence->phase != Sequence::Phase::kAnswer) continue;
    tokens.push_back(sequence->next);
    batch.push_back(sequence->chunk(1));
    members.push_back(sequence.get());
  }
  if (members.empty()) return false;
  const auto logits = engine_->forward(tokens, batch);
  if (!logits) {
    for (Sequence* sequence : members) fail_sequence(*sequence, logits.error());
    return true;
  }
  const std::size_t n_vocab = static_cast<std::size_t>(engine_->model().config().n_vocab);
  for (std::size_t i = 0; i < members.size(); ++i) accept(*members[i], std::span(*logits).subspan(i * n_vocab, n_vocab));
  return true;
}

// Chooses a token and passes it on.
void BatchLoop::accept(Sequence& sequence, std::span<const float> logits) {
  const GenerationRequest& request = sequence.request();
  const Text& text = engine_->model().text();
  const Sampled sampled = sequence.sampler.sample(logits, request.logprobs ? request.top_logprobs : 0);
  ++sequence.produced;
  {
    const std::scoped_lock lock(mutex_);
    ++stats_.completion_tokens;
  }
  if (text.ends_generation(sampled.token)) return finish(sequence, FinishReason::kStop);

  GenerationPiece piece{.text = sequence.assembler.add(text.piece(sampled.token))};
  if (request.logprobs) {
    TokenText token{.bytes = text.piece(sampled.token, true), .logprob = sampled.logprob};
    for (const TokenLogprob& other : sampled.top) token.top.emplace_back(text.piece(other.token, true), other.logprob);
    piece.tokens.push_back(std::move(token));
  }
  if (!piece.text.empty() || !piece.tokens.empty()) sequence.generation->put(std::move(piece));
  if (sequence.assembler.stopped()) return finish(sequence, FinishReason::kStop);
  if (sequence.produced == request.max_tokens) return finish(sequence, FinishReason::kLength);
  sequence.next = sampled.token;
}

void BatchLoop::finish(Sequence& sequence, FinishReason reason) {
  const TimePoint now = clock_.now();
  const bool began = sequence.first_token != TimePoint{};
  GenerationPiece piece{.text = sequence.assembler.flush(), .finish = reason};
  piece.usage = {.prompt_tokens = sequence.n_context() + static_cast<int>(sequence.request().prompt.size()),
                 .cached_tokens = sequence.n_context(),
                 .completion_tokens = sequence.produced};
  piece.times = {.queue = sequence.started - sequence.submitted,
                 .context = sequence.context_ready == TimePoint{} ? Duration{} : sequence.context_ready - sequence.started,
                 .prefill = sequence.prefill,
                 .first_token = began ? sequence.first_token - sequence.submitted : Duration{},
                 .decode = began ? now - sequence.first_token : Duration{}};
  sequence.generation->put(std::move(piece));
  sequence.phase = Sequence::Phase::kEnded;
  const std::scoped_lock lock(mutex_);
  ++(reason == FinishReason::kCancelled ? stats_.cancelled : stats_.finished);
}

void BatchLoop::fail_sequence(Sequence& sequence, const Error& error) {
  if (sequence.phase == Sequence::Phase::kEnded) return;
  log_->error("request failed: {}", error.message);
  sequence.generation->put({.error = error});
  sequence.phase = Sequence::Phase::kEnded;
  const std::scoped_lock lock(mutex_);
  ++stats_.failed;
}

void BatchLoop::remove_ended() {
  std::erase_if(running_, [](const auto& sequence) { return sequence->phase == Sequence::Phase::kEnded; });
  // A context that nobody waits for any more is still finished: the next request will want it.
  const std::scoped_lock lock(mutex_);
  stats_.running = static_cast<int>(running_.size());
  if (queue_.empty() && running_.empty()) idle_.notify_all();
}

}  // namespace celslm
