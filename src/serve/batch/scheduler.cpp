#include "serve/batch/scheduler.h"

#include <algorithm>

namespace celslm {
namespace {

constexpr int kHeadroom = 64;  // tokens of answer that there is memory for when a request joins the batch

int n_prompt(const Sequence& sequence) {
  return static_cast<int>(sequence.tokens().size());
}

bool has_ended(const std::unique_ptr<Sequence>& sequence) {
  return sequence->phase() == Sequence::Phase::kEnded;
}

}  // namespace

Scheduler::Scheduler(Engine& engine, const Clock& clock, const BatchOptions& options, Log log)
    : clock_(clock),
      options_(options),
      log_(std::move(log)),
      memory_(engine.model().config(), clock, options),
      runner_(engine, clock, memory_, options) {}

void Scheduler::admit() {
  for (const auto& sequence : running_) {
    if (sequence->cancelled()) sequence->finish(FinishReason::kCancelled, clock_.now());
  }
  for (const auto& sequence : waiting_) {
    if (sequence->cancelled()) sequence->finish(FinishReason::kCancelled, clock_.now());
  }
  remove_ended();
  while (!waiting_.empty() && static_cast<int>(running_.size()) < options_.max_running) {
    const Sequence& next = *waiting_.front();
    const int n_tokens = std::min(n_prompt(next) + kHeadroom, next.most_tokens());
    if (!memory_.make_room(running_, memory_.bytes_of(next, n_tokens))) {
      if (!running_.empty()) break;
      if (memory_.ledger_is_full() && !memory_.make_room(running_, memory_.bytes_of(next, n_prompt(next)))) {
        refuse_next();
        continue;
      }
    }
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
    running_.back()->begin_running(clock_.now());
  }
}

bool Scheduler::step() {
  const bool worked = runner_.step(running_);
  remove_ended();
  relieve();
  counted_.steps += worked ? 1 : 0;
  return worked;
}

// Nothing runs whose end would make room: others hold the memory, and for how long nobody knows.
void Scheduler::refuse_next() {
  waiting_.front()->fail({ErrorKind::kOverloaded, "no memory is left for this request's KV; try again later"});
  remove_ended();
}

void Scheduler::fail_running(const Error& error) {
  memory_.drop_kept();
  runner_.drop_contexts();
  for (const auto& sequence : running_) sequence->fail(error);
  remove_ended();
}

void Scheduler::fail_all(const Error& error) {
  for (const auto& sequence : running_) sequence->fail(error);
  for (const auto& sequence : waiting_) sequence->fail(error);
  remove_ended();
}

void Scheduler::remove_ended() {
  for (const auto& sequence : running_) {
    if (!has_ended(sequence)) continue;
    count_ended(*sequence);
    if (!sequence->error()) memory_.keep(*sequence);
  }
  running_.remove_if(has_ended);
  for (const auto& sequence : waiting_) {
    if (has_ended(sequence)) count_ended(*sequence);
  }
  std::erase_if(waiting_, has_ended);
}

void Scheduler::count_ended(const Sequence& sequence) {
  if (sequence.error()) {
    log_->error("request failed: {}", sequence.error()->message);
    ++counted_.failed;
  } else if (sequence.finish_reason() == FinishReason::kCancelled) {
    ++counted_.cancelled;
  } else {
    ++counted_.finished;
  }
}

// Preempts requests until what runs fits the budget. The last one left ends instead: there is no more room to wait for.
void Scheduler::relieve() {
  while (!memory_.make_room(running_, 0) && !running_.empty()) {
    if (running_.size() == 1) {
      running_.front()->finish(FinishReason::kLength, clock_.now());
      remove_ended();
      return;
    }
    const auto last = std::ranges::max_element(running_, {}, [](const auto& s) { return s->number(); });
    log_->debug("request {} is preempted: {} of {} bytes are used up", (*last)->number(),
                memory_.ledger_is_full() ? "the process's memory" : "the KV budget",
                memory_.ledger_is_full() ? options_.memory->limit_bytes() : options_.kv_budget_bytes);
    (*last)->preempt();
    ++counted_.preempted;
    waiting_.push_front(std::move(*last));
    running_.erase(last);
  }
}

BatchStats Scheduler::stats() const {
  BatchStats out = counted_;
  out.prompt_tokens = runner_.prompt_tokens();
  out.completion_tokens = runner_.completion_tokens();
  out.reused_tokens = memory_.reused_tokens();
  out.own_kv_bytes = memory_.bytes_of(running_);
  out.kept_kv_bytes = memory_.kept_bytes();
  out.running = static_cast<int>(running_.size());
  out.queued = static_cast<int>(waiting_.size());
  return out;
}

}  // namespace celslm
