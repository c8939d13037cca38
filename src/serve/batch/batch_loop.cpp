#include "serve/batch/batch_loop.h"

#include <new>

namespace celslm {
namespace {

using namespace std::chrono_literals;

// How long a request that waits for its context may go on after it was cancelled: nothing wakes the loop for that.
constexpr Duration kCancelPoll = 100ms;

const Error kNoMemory{ErrorKind::kOverloaded, "this edge's memory is used up; try again later"};
const Error kShutDown{ErrorKind::kUnavailable, "this edge is shutting down"};

}  // namespace

BatchLoop::BatchLoop(std::unique_ptr<Engine> engine, const Clock& clock, const BatchOptions& options, Log log,
                     std::shared_ptr<ConstraintMaker> constraints)
    : engine_(std::move(engine)),
      clock_(clock),
      options_(options),
      constraints_(std::move(constraints)),
      scheduler_(*engine_, clock, options, std::move(log)),
      woken_(clock),
      idle_(clock),
      thread_([this](std::stop_token s) { run(s); }) {}

BatchLoop::~BatchLoop() {
  stop(0ms);
}

Status BatchLoop::check(const GenerationRequest& request) const {
  const ModelConfig& config = engine_->model().config();
  const std::size_t used = request.prompt.size() + static_cast<std::size_t>(request.n_context());
  if (request.prompt.empty() || request.max_tokens < 0) return fail(ErrorKind::kInvalid, "a request needs a prompt");
  if (engine_->model().foreign() && (request.embed || request.prompt_logprobs))
    return fail(ErrorKind::kInvalid, "{} are not possible with a model that libllama runs",
                request.embed ? "embeddings" : "log probabilities of the prompt ('echo' with 'logprobs')");
  if (used + static_cast<std::size_t>(request.max_tokens) > static_cast<std::size_t>(config.n_ctx_train)) {
    return fail(ErrorKind::kInvalid, "{} tokens of prompt and {} of answer exceed the model's context of {}", used,
                request.max_tokens, config.n_ctx_train);
  }
  return {};
}

Result<std::shared_ptr<Generation>> BatchLoop::submit(GenerationRequest request) {
  std::vector<GenerationRequest> one;
  one.push_back(std::move(request));
  CELSLM_TRY(auto generations, submit(std::move(one)));
  return std::move(generations.front());
}

Result<std::vector<std::shared_ptr<Generation>>> BatchLoop::submit(std::vector<GenerationRequest> requests) {
  const ModelConfig& config = engine_->model().config();
  const auto pieces = std::make_shared<PieceQueue>(clock_);
  std::vector<std::shared_ptr<Generation>> out;
  std::vector<std::unique_ptr<Sequence>> sequences;
  for (GenerationRequest& request : requests) {
    CELSLM_CHECK_OK(check(request));
    if (options_.share_prefixes) request.owner = request.tenant;  // shared within a tenant
    // Outside the lock, as the end of those that are not taken: what ends a constraint waits for those who tell this loop of
    // its answers.
    CELSLM_TRY(TokenChoice choice, choice_for(request));
    out.push_back(std::make_shared<Generation>(std::move(request), pieces));
    sequences.push_back(std::make_unique<Sequence>(out.back(), std::move(choice), 0, clock_.now()));
    const auto n_tokens = static_cast<int>(sequences.back()->tokens().size());
    const std::uint64_t bytes = own_kv_bytes(config, options_, *sequences.back(), n_tokens + 1);
    if (bytes > options_.kv_budget_bytes) {
      return fail(ErrorKind::kInvalid, "the prompt's KV takes {} bytes, the budget is {} (--kv-budget)", bytes,
                  options_.kv_budget_bytes);
    }
  }
  const MutexLock lock(mutex_);
  if (closed_) return fail(ErrorKind::kUnavailable, "this edge is shutting down");
  const int most = options_.max_running + options_.max_queued;
  const auto wanted = static_cast<int>(sequences.size());
  if (wanted > most) return fail(ErrorKind::kInvalid, "{} texts in one request; this edge runs and queues {}", wanted, most);
  // Running and waiting ones together: a burst arrives before the scheduler has moved any of it to a free place.
  const int taken = stats_.running + stats_.queued + static_cast<int>(arrivals_.size());
  if (taken + wanted > most) {
    return fail(ErrorKind::kOverloaded, "{} requests are running or waiting, of {} that this edge takes; try again later",
                taken, most);
  }
  for (auto& sequence : sequences) {
    sequence->set_number(next_number_++);
    arrivals_.push_back(std::move(sequence));
  }
  wake_ = true;
  woken_.notify_all();
  return out;
}

Result<TokenChoice> BatchLoop::choice_for(const GenerationRequest& request) {
  const Text& text = engine_->model().text();
  CELSLM_TRY(Sampler sampler, Sampler::create(text, request.sampler));
  const GrammarSpec& grammar = request.sampler.grammar;
  if (grammar.empty()) return sampler;
  if (!constraints_) return fail(ErrorKind::kInvalid, "answers with grammars are not possible here");
  CELSLM_TRY(auto constraint, constraints_->make(grammar, [this] { wake(); }));
  return TokenChoice(std::in_place_type<ConstrainedChoice>, text, std::move(sampler), std::move(constraint),
                     grammar.triggers);
}

void BatchLoop::wake() {
  const MutexLock lock(mutex_);
  wake_ = true;
  woken_.notify_all();
}

void BatchLoop::stop(std::chrono::milliseconds grace) {
  {
    const MutexLock lock(mutex_);
    closed_ = true;
    idle_.wait_for(mutex_, grace,
                   [&]() CELSLM_REQUIRES(mutex_) { return arrivals_.empty() && stats_.running + stats_.queued == 0; });
  }
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

BatchStats BatchLoop::stats() const {
  const MutexLock lock(mutex_);
  BatchStats out = stats_;
  out.queued += static_cast<int>(arrivals_.size());
  return out;
}

void BatchLoop::run(std::stop_token stop) {
  while (!stop.stop_requested()) {
    if (step()) continue;
    const MutexLock lock(mutex_);
    woken_.wait_for(mutex_, stop, kCancelPoll, [&]() CELSLM_REQUIRES(mutex_) { return wake_; });
    wake_ = false;
  }
  take_arrivals();
  scheduler_.fail_all(kShutDown);
  publish_stats();
}

// Memory that cannot be had ends the requests in the batch, not the process.
bool BatchLoop::step() {
  try {
    take_arrivals();
    scheduler_.admit();
    publish_stats();
    const bool worked = scheduler_.step();
    publish_stats();
    return worked;
  } catch (const std::bad_alloc&) {
    scheduler_.fail_running(kNoMemory);
    publish_stats();
    return true;
  }
}

void BatchLoop::take_arrivals() {
  const MutexLock lock(mutex_);
  for (auto& sequence : arrivals_) scheduler_.add(std::move(sequence));
  stats_.queued += static_cast<int>(arrivals_.size());
  arrivals_.clear();
}

void BatchLoop::publish_stats() {
  const BatchStats now = scheduler_.stats();
  const MutexLock lock(mutex_);
  stats_ = now;
  if (arrivals_.empty() && now.running + now.queued == 0) idle_.notify_all();
}

}  // namespace celslm
