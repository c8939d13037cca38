#include "serve/context/resident_context.h"

#include <algorithm>
#include <utility>

namespace celslm {

ResidentContext::ResidentContext(const ContextHandle& context_handle, const Hash256& context_id,
                                 std::vector<Token> context_tokens, const std::optional<ContextStudy>& context_study,
                                 const std::string& context_tenant, std::shared_ptr<KvSegment> kv)
    : handle(context_handle),
      id(context_id),
      tokens(std::move(context_tokens)),
      study(context_study),
      tenant(context_tenant),
      segment(std::move(kv)),
      filled_(static_cast<std::size_t>(segment->n_layers())),
      origins_(static_cast<std::size_t>(segment->n_layers())) {}

Result<std::shared_ptr<ResidentContext>> ResidentContext::create(const ContextHandle& handle, const ModelConfig& config,
                                                                 const Hash256& id, std::vector<Token> tokens, KvType type,
                                                                 const std::optional<ContextStudy>& study,
                                                                 const std::string& tenant) {
  const int n_tokens = static_cast<int>(tokens.size());
  CELSLM_TRY(auto segment, study ? KvSegment::create_condensed(config, type, study->n_rows, n_tokens)
                                 : KvSegment::create(config, type, 0, n_tokens));
  if (!study) segment->set_length(n_tokens);
  return std::shared_ptr<ResidentContext>(
      new ResidentContext(handle, id, std::move(tokens), study, tenant, std::move(segment)));
}

void ResidentContext::layer_filled(int layer, LayerOrigin origin) {
  {
    const MutexLock lock(mutex_);
    filled_[static_cast<std::size_t>(layer)] = true;
    origins_[static_cast<std::size_t>(layer)] = origin;
    const auto first_missing = std::find(filled_.begin(), filled_.end(), false);
    ready_.store(static_cast<int>(first_missing - filled_.begin()), std::memory_order_release);
  }
  changed();
}

bool ResidentContext::filled(int layer) const {
  const MutexLock lock(mutex_);
  return filled_[static_cast<std::size_t>(layer)];
}

void ResidentContext::set_codec(std::string codec, std::string reason) {
  const MutexLock lock(mutex_);
  codec_ = std::move(codec);
  codec_reason_ = std::move(reason);
}

std::shared_ptr<ComputeWork> ResidentContext::compute_work() const {
  if (complete()) return nullptr;
  const MutexLock lock(mutex_);
  return work_;
}

void ResidentContext::set_compute_work(std::shared_ptr<ComputeWork> work) {
  const MutexLock lock(mutex_);
  work_ = std::move(work);
}

void ResidentContext::set_note(std::string note) {
  const MutexLock lock(mutex_);
  note_ = std::move(note);
}

void ResidentContext::set_load_report(const LoadReport& report) {
  const MutexLock lock(mutex_);
  load_ = report;
}

void ResidentContext::on_change(std::function<void()> call) {
  const MutexLock lock(mutex_);
  on_change_ = std::move(call);
}

void ResidentContext::changed() {
  std::function<void()> call;
  {
    const MutexLock lock(mutex_);
    call = on_change_;
  }
  if (call) call();
}

ResidentContext::Report ResidentContext::report() const {
  const MutexLock lock(mutex_);
  return {.layers = origins_,
          .bytes = bytes_.load(std::memory_order_relaxed),
          .codec = codec_,
          .codec_reason = codec_reason_,
          .note = note_,
          .load = load_};
}

}  // namespace celslm
