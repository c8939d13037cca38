#include "serve/batch/context_compute.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>

#include "core/pages.h"

namespace celslm {

// The computation fills a segment of its own, since layers of the context's own may arrive from elsewhere meanwhile; each
// finished layer is handed over, and its pages are given back.
struct ContextCompute::Job {
  std::shared_ptr<ResidentContext> context;
  MemoryLease lease;
  std::shared_ptr<KvSegment> target;
  std::optional<ContextPrefill> prefill;  // none: has not begun
  double steps_per_layer = 1;
  std::vector<float> k;  // of the current layer, if wanted: [n_tokens][kv_width]
  std::vector<float> v;
};

namespace {

// Its rows, if it has any, are zeros from now on. Pages at the ends may have rows of a neighbour, too.
void release_layer(KvSegment& segment, int layer) {
  if (!segment.has_rows(layer)) return;
  auto* const k = static_cast<std::byte*>(segment.k_data(layer));
  auto* const v = static_cast<std::byte*>(segment.v_data(layer));  // as far from K as the next layer is from V
  release_complete_pages({k, static_cast<std::size_t>(2 * (v - k))});
}

}  // namespace

ContextCompute::ContextCompute(Engine& engine, const Clock& clock, MemoryLedger& memory)
    : engine_(engine), clock_(clock), memory_(memory) {}
ContextCompute::~ContextCompute() = default;

void ContextCompute::drop_all() {
  jobs_.clear();
}

void ContextCompute::add(const std::shared_ptr<ResidentContext>& context) {
  const auto work = context->compute_work();
  const bool wanted = work && work->wants_unit();
  if (!wanted || std::ranges::contains(jobs_, context, [](const auto& job) { return job->context; })) return;
  jobs_.push_back(std::make_unique<Job>());
  jobs_.back()->context = context;
}

// A layer of KV, the hidden states of all tokens, and a layer's rows in f32: kept for the disk, or to be tuned.
std::uint64_t ContextCompute::bytes_for(const ResidentContext& context) const {
  const ModelConfig& config = engine_.model().config();
  const auto n_tokens = static_cast<std::uint64_t>(context.tokens.size());
  if (engine_.model().foreign()) return n_tokens * sizeof(float);  // libllama has its memory already
  const auto layer_kv = KvSegment::resident_bytes(config, context.segment->type(), static_cast<int>(n_tokens)) /
                        static_cast<std::uint64_t>(config.n_row_layers());
  const auto values = static_cast<std::uint64_t>(config.n_embd) + 2 * static_cast<std::uint64_t>(config.kv_width());
  return layer_kv + n_tokens * values * sizeof(float);
}

Status ContextCompute::begin(Job& job, const ComputeWork& work) {
  const ResidentContext& context = *job.context;
  const std::uint64_t bytes = bytes_for(context);
  memory_.make_room(bytes);
  CELSLM_TRY(job.lease, memory_.take("computing", bytes));
  CELSLM_TRY(job.target, KvSegment::create(engine_.model().config(), context.segment->type(), 0,
                                           static_cast<int>(context.tokens.size())));
  CELSLM_TRY(job.prefill, ContextPrefill::start(engine_, context.tokens, job.target, work.tuning()));
  job.steps_per_layer = static_cast<double>(job.prefill->units()) / context.n_layers();
  return {};
}

Status ContextCompute::advance(Job& job, ComputeWork& work) {
  const TimePoint began = clock_.now();
  const int layer = job.prefill->layers_done();
  ContextPrefill::Tap tap;
  if (work.wants_rows()) {
    tap = [&](int, int, std::span<const float> k, std::span<const float> v) {
      job.k.insert(job.k.end(), k.begin(), k.end());
      job.v.insert(job.v.end(), v.begin(), v.end());
    };
  }
  CELSLM_CHECK_OK(job.prefill->advance(tap));
  work.unit_computed(1.0 / job.steps_per_layer, began);
  if (job.prefill->layers_done() > layer) {
    work.layer_computed(layer, *job.target, std::exchange(job.k, {}), std::exchange(job.v, {}));
    release_layer(*job.target, layer);
  }
  return {};
}

// Contexts are computed one after the other: half of each would let nobody start.
ContextCompute::Jobs::iterator ContextCompute::next_job() {
  const auto wants_unit = [](const auto& job) {
    const auto work = job->context->compute_work();
    return work && work->wants_unit();
  };
  const auto begun = std::ranges::find_if(jobs_, [&](const auto& job) { return job->prefill && wants_unit(job); });
  return begun != jobs_.end() ? begun : std::ranges::find_if(jobs_, wants_unit);
}

ContextCompute::Step ContextCompute::advance() {
  busy_ = false;
  std::erase_if(jobs_, [](const auto& job) { return !job->context->compute_work(); });
  const auto it = next_job();
  const auto work = it == jobs_.end() ? nullptr : (*it)->context->compute_work();
  if (!work) return {};
  Job& job = **it;
  Status status = job.prefill ? Status() : begin(job, *work);
  const bool others_end = std::ranges::any_of(jobs_, [&](const auto& other) { return other->prefill.has_value(); });
  if (!status && status.error().kind == ErrorKind::kOverloaded && others_end) return {};  // and give memory back
  busy_ = true;
  Step step{.worked = true};
  if (status) status = advance(job, *work);
  if (status) return step;
  step.failed = job.context;
  step.error = status.error();
  jobs_.erase(it);
  return step;
}

}  // namespace celslm
