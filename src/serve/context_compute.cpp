#include "serve/context_compute.h"

#include <cstring>

namespace celslm {
namespace {

// The same shape and type on both sides, so a layer is one run of bytes.
void copy_layer(KvSegment& from, KvSegment& to, int layer) {
  const std::size_t bytes = from.size_bytes() / (2 * static_cast<std::size_t>(from.n_layers()));
  std::memcpy(to.k_data(layer), from.k_data(layer), bytes);
  std::memcpy(to.v_data(layer), from.v_data(layer), bytes);
}

}  // namespace

// Where some layers came from elsewhere they are being read, so the computation fills a segment of its own and hands over
// layer by layer.
struct ContextCompute::Job {
  std::shared_ptr<ResidentContext> context;
  std::shared_ptr<KvSegment> target;
  ContextPrefill prefill;
};

ContextCompute::ContextCompute(Engine& engine) : engine_(engine) {}
ContextCompute::~ContextCompute() = default;

Status ContextCompute::take_up(const std::shared_ptr<ResidentContext>& context) {
  if (!context->wants_compute() || jobs_.contains(context.get())) return {};
  std::shared_ptr<KvSegment> target = context->segment;
  if (context->ready_layers() > 0) {
    CELSLM_TRY(target, KvSegment::create(engine_.model().config(), target->type(), 0, target->capacity()));
  }
  CELSLM_TRY(auto prefill, ContextPrefill::start(engine_, context->tokens, target));
  jobs_[context.get()] = std::make_unique<Job>(Job{context, std::move(target), std::move(prefill)});
  return {};
}

std::optional<ContextCompute::Failure> ContextCompute::advance() {
  // Contexts are computed one after the other: half of each would let nobody start.
  const auto first = jobs_.begin();
  Job& job = *first->second;
  const int before = job.prefill.layers_done();
  if (auto status = job.prefill.advance(); !status) {
    Failure failure{job.context, status.error()};
    jobs_.erase(first);
    return failure;
  }
  if (job.prefill.layers_done() > before && !job.context->filled(before)) {
    if (job.target != job.context->segment) copy_layer(*job.target, *job.context->segment, before);
    job.context->layer_filled(before, {Provenance::kNative, Source::kCompute});
  }
  if (job.prefill.finished()) jobs_.erase(first);
  return std::nullopt;
}

}  // namespace celslm
