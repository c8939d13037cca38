#include "serve/batch/batch_loop.h"

#include <algorithm>

namespace celslm {
namespace {

constexpr int kHeadroom = 64;  // tokens of answer that a request is sure to have room for when it is taken up

const Error kShutDown{ErrorKind::kCancelled, "this edge is shutting down"};

}  // namespace

BatchLoop::BatchLoop(std::unique_ptr<Engine> engine, const Clock& clock, const BatchOptions& options, Log log)
    : engine_(std::move(engine)),
      clock_(clock),
      options_(options),
      log_(std::move(log)),
      compute_(*engine_, clock_),
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

  const std::scoped_lock lock(mutex_);
  if (closed_) return fail(ErrorKind::kUnavailable, "this edge is shutting down");
  // Counted together: a burst comes before the loop has taken anyone from the queue to a free place.
  const int taken = stats_.running + static_cast<int>(queue_.size());
  if (taken >= options_.max_running + options_.max_queued) {
    return fail(ErrorKind::kOverloaded, "{} requests are running or waiting, as many as may be; try again later", taken);
  }
  auto sequence = std::make_unique<Sequence>(generation, std::move(sampler), next_number_++, clock_.now());
  if (const auto bytes = bytes_of(*sequence, static_cast<int>(sequence->tokens().size()) + 1);
      bytes > options_.kv_budget_bytes) {
    return fail(ErrorKind::kInvalid, "the prompt's KV takes {} bytes, the budget is {} (--kv-budget)", bytes,
                options_.kv_budget_bytes);
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
  for (const auto& sequence : running_) fail_sequence(*sequence, kShutDown);
  const std::scoped_lock lock(mutex_);
  for (const auto& sequence : queue_) fail_sequence(*sequence, kShutDown);
  queue_.clear();
}

bool BatchLoop::step() {
  drop_cancelled();
  admit();
  bool worked = compute_contexts();
  worked |= advance_waiting();
  worked |= run_batch();
  remove_ended();
  relieve();
  counted_.steps += worked ? 1 : 0;
  note_stats();
  return worked;
}

void BatchLoop::note_stats() {
  counted_.own_kv_bytes = running_bytes();
  counted_.kept_kv_bytes = prefixes_.bytes();
  const std::scoped_lock lock(mutex_);
  stats_ = counted_;
  stats_.running = static_cast<int>(running_.size());
  stats_.queued = static_cast<int>(queue_.size());
  if (queue_.empty() && running_.empty()) idle_.notify_all();
}

// --- who runs ---------------------------------------------------------------------------------------------------------

void BatchLoop::admit() {
  const std::scoped_lock lock(mutex_);
  while (!queue_.empty() && static_cast<int>(running_.size()) < options_.max_running) {
    const Sequence& next = *queue_.front();
    const int n_tokens = std::min(static_cast<int>(next.tokens().size()) + kHeadroom, next.most_tokens());
    if (!make_room(bytes_of(next, n_tokens)) && !running_.empty()) break;
    running_.push_back(std::move(queue_.front()));
    queue_.pop_front();
    running_.back()->begin_running(clock_.now());
  }
  // For submit(), which counts them; the rest of the figures follow at the end of the step.
  stats_.running = static_cast<int>(running_.size());
  stats_.queued = static_cast<int>(queue_.size());
}

void BatchLoop::drop_cancelled() {
  const auto drop = [&](Sequence& sequence) {
    if (!sequence.cancelled() || sequence.phase() == Sequence::Phase::kEnded) return;
    sequence.finish(FinishReason::kCancelled, clock_.now());
    ++counted_.cancelled;
  };
  for (const auto& sequence : running_) drop(*sequence);
  {
    const std::scoped_lock lock(mutex_);
    for (const auto& sequence : queue_) drop(*sequence);
    std::erase_if(queue_, [](const auto& sequence) { return sequence->phase() == Sequence::Phase::kEnded; });
  }
  remove_ended();
}

void BatchLoop::fail_sequence(Sequence& sequence, const Error& error) {
  if (sequence.phase() == Sequence::Phase::kEnded) return;
  log_->error("request failed: {}", error.message);
  sequence.fail(error);
  ++counted_.failed;
}

void BatchLoop::remove_ended() {
  for (const auto& sequence : running_) {
    if (sequence->phase() == Sequence::Phase::kEnded) keep_prefix(*sequence);
  }
  std::erase_if(running_, [](const auto& sequence) { return sequence->phase() == Sequence::Phase::kEnded; });
}

// --- memory -----------------------------------------------------------------------------------------------------------

std::uint64_t BatchLoop::bytes_of(const Sequence& sequence, int n_tokens) const {
  return KvSegment::resident_bytes(engine_->model().config(), own_type(sequence), n_tokens);
}

KvType BatchLoop::own_type(const Sequence& sequence) const {
  const KvType type = sequence.context() ? sequence.context()->segment->type() : options_.kv_type;
  return type == KvType::kQ8 ? KvType::kF16 : type;
}

std::uint64_t BatchLoop::running_bytes() const {
  std::uint64_t sum = 0;
  for (const auto& sequence : running_) sum += bytes_of(*sequence, static_cast<int>(sequence->tokens().size()));
  return sum;
}

// Whether so many bytes more fit the budget beside what runs; kept prefixes give way.
bool BatchLoop::make_room(std::uint64_t bytes) {
  const std::uint64_t taken = running_bytes() + bytes;
  prefixes_.shrink_to(taken < options_.kv_budget_bytes ? options_.kv_budget_bytes - taken : 0);
  return taken <= options_.kv_budget_bytes;
}

// Answers have grown: who came last computes its tokens again when there is room. The one that is left alone ends instead.
void BatchLoop::relieve() {
  while (!make_room(0) && !running_.empty()) {
    const auto last = std::ranges::max_element(running_, {}, [](const auto& s) { return s->number(); });
    if (running_.size() == 1) {
      (*last)->finish(FinishReason::kLength, clock_.now());
      ++counted_.finished;
      remove_ended();
      return;
    }
    log_->debug("request {} gives its KV back: the budget of {} bytes is full", (*last)->number(), options_.kv_budget_bytes);
    (*last)->preempt();
    ++counted_.preempted;
    const std::scoped_lock lock(mutex_);
    queue_.push_front(std::move(*last));
    running_.erase(last);
  }
}

void BatchLoop::keep_prefix(const Sequence& sequence) {
  if (!options_.reuse_prefixes || !sequence.has_kv() || sequence.done() < kMinPrefix) return;
  const auto n_tokens = static_cast<std::size_t>(sequence.done());
  const std::span<const Token> tokens = sequence.tokens().first(n_tokens);
  prefixes_.keep(sequence.context(), {tokens.begin(), tokens.end()}, sequence.kv(), bytes_of(sequence, sequence.done()));
}

}  // namespace celslm
