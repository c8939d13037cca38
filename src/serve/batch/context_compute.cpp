#include "serve/batch/context_compute.h"

#include <algorithm>

namespace celslm {

// The computation fills a segment of its own, since layers of the context's own may arrive from elsewhere meanwhile; each
// finished layer is handed over.
struct ContextCompute::Job {
  std::shared_ptr<ResidentContext> context;
  std::shared_ptr<KvSegment> target;
  ContextPrefill prefill;
  double steps_per_layer = 1;
  std::vector<float> k;  // of the current layer, if wanted: [n_tokens][kv_width]
  std::vector<float> v;
};

ContextCompute::ContextCompute(Engine& engine, const Clock& clock) : engine_(engine), clock_(clock) {}
ContextCompute::~ContextCompute() = default;

Status ContextCompute::add(const std::shared_ptr<ResidentContext>& context) {
  const auto work = context->compute_work();
  const bool wanted = work && work->wants_unit();
  if (!wanted || std::ranges::contains(jobs_, context, [](const auto& job) { return job->context; })) return {};
  const KvSegment& segment = *context->segment;
  CELSLM_TRY(auto target,
             KvSegment::create(engine_.model().config(), segment.type(), 0, static_cast<int>(context->tokens.size())));
  CELSLM_TRY(auto prefill, ContextPrefill::start(engine_, context->tokens, target, work->tuning()));
  const double steps = static_cast<double>(prefill.units()) / segment.n_layers();
  jobs_.push_back(std::make_unique<Job>(Job{context, std::move(target), std::move(prefill), steps, {}, {}}));
  return {};
}

Status ContextCompute::advance(Job& job, ComputeWork& work) {
  const TimePoint began = clock_.now();
  const int layer = job.prefill.layers_done();
  ContextPrefill::Tap tap;
  if (work.wants_rows()) {
    tap = [&](int, int, std::span<const float> k, std::span<const float> v) {
      job.k.insert(job.k.end(), k.begin(), k.end());
      job.v.insert(job.v.end(), v.begin(), v.end());
    };
  }
  CELSLM_CHECK_OK(job.prefill.advance(tap));
  work.unit_computed(1.0 / job.steps_per_layer, began);
  if (job.prefill.layers_done() > layer) {
    work.layer_computed(layer, *job.target, std::exchange(job.k, {}), std::exchange(job.v, {}));
  }
  return {};
}

ContextCompute::Step ContextCompute::advance() {
  busy_ = false;
  std::erase_if(jobs_, [](const auto& job) { return !job->context->compute_work(); });
  // Contexts are computed one after the other: half of each would let nobody start.
  for (auto it = jobs_.begin(); it != jobs_.end(); ++it) {
    const auto work = (*it)->context->compute_work();
    if (!work || !work->wants_unit()) continue;
    busy_ = true;
    Step step{.worked = true};
    if (const Status status = advance(**it, *work); !status) {
      step.failed = (*it)->context;
      step.error = status.error();
      jobs_.erase(it);
    }
    return step;
  }
  return {};
}

}  // namespace celslm
