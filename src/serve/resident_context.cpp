#include "serve/resident_context.h"

#include <algorithm>
#include <utility>

namespace celslm {

const char* to_string(Source source) {
  switch (source) {
    case Source::kCompute: return "compute";
    case Source::kMemory: return "memory";
    case Source::kDisk: return "disk";
    case Source::kPeer: return "peer";
    case Source::kCloud: return "cloud";
  }
  return "unknown";
}

ResidentContext::ResidentContext(const ContextHandle& context_handle, const Hash256& context_id,
                                 std::vector<Token> context_tokens, std::shared_ptr<KvSegment> kv)
    : handle(context_handle),
      id(context_id),
      tokens(std::move(context_tokens)),
      segment(std::move(kv)),
      filled_(static_cast<std::size_t>(segment->n_layers())),
      origins_(static_cast<std::size_t>(segment->n_layers())) {}

Result<std::shared_ptr<ResidentContext>> ResidentContext::create(const ContextHandle& handle, const ModelConfig& config,
                                                                 const Hash256& id, std::vector<Token> tokens, KvType type) {
  const int n_tokens = static_cast<int>(tokens.size());
  CELSLM_TRY(auto segment, KvSegment::create(config, type, 0, n_tokens));
  segment->set_length(n_tokens);
  return std::shared_ptr<ResidentContext>(new ResidentContext(handle, id, std::move(tokens), std::move(segment)));
}

void ResidentContext::layer_filled(int layer, LayerOrigin origin) {
  {
    const std::scoped_lock lock(mutex_);
    filled_[static_cast<std::size_t>(layer)] = true;
    origins_[static_cast<std::size_t>(layer)] = origin;
    const auto first_missing = std::find(filled_.begin(), filled_.end(), false);
    ready_.store(static_cast<int>(first_missing - filled_.begin()), std::memory_order_release);
  }
  changed();
}

bool ResidentContext::filled(int layer) const {
  const std::scoped_lock lock(mutex_);
  return filled_[static_cast<std::size_t>(layer)];
}

void ResidentContext::set_codec(std::string codec, std::string reason) {
  const std::scoped_lock lock(mutex_);
  codec_ = std::move(codec);
  codec_reason_ = std::move(reason);
}

std::shared_ptr<ComputeWork> ResidentContext::compute_work() const {
  if (complete()) return nullptr;
  const std::scoped_lock lock(mutex_);
  return work_;
}

void ResidentContext::set_compute_work(std::shared_ptr<ComputeWork> work) {
  const std::scoped_lock lock(mutex_);
  work_ = std::move(work);
}

void ResidentContext::set_note(std::string note) {
  const std::scoped_lock lock(mutex_);
  note_ = std::move(note);
}

void ResidentContext::set_load_report(const LoadReport& report) {
  const std::scoped_lock lock(mutex_);
  load_ = report;
}

void ResidentContext::on_change(std::function<void()> call) {
  const std::scoped_lock lock(mutex_);
  on_change_ = std::move(call);
}

void ResidentContext::changed() {
  std::function<void()> call;
  {
    const std::scoped_lock lock(mutex_);
    call = on_change_;
  }
  if (call) call();
}

ResidentContext::Report ResidentContext::report() const {
  const std::scoped_lock lock(mutex_);
  return {.layers = origins_,
          .bytes = bytes_.load(std::memory_order_relaxed),
          .codec = codec_,
          .codec_reason = codec_reason_,
          .note = note_,
          .load = load_};
}

Result<std::shared_ptr<ResidentContext>> ContextTable::acquire(
    const ContextHandle& handle, const std::function<Result<std::shared_ptr<ResidentContext>>()>& create, bool* created) {
  const std::scoped_lock lock(mutex_);
  std::shared_ptr<ResidentContext> context;
  const auto it = slots_.find(handle);
  *created = it == slots_.end();
  if (*created) {
    CELSLM_TRY(context, create());
  } else {
    context = it->second.context;
  }
  slots_[handle] = {.context = context, .used = ++counter_};
  evict();  // also of one that was found: what was in use when the budget was exceeded may be so no more
  return context;
}

std::shared_ptr<ResidentContext> ContextTable::find(const ContextHandle& handle) const {
  const std::scoped_lock lock(mutex_);
  const auto it = slots_.find(handle);
  return it == slots_.end() ? nullptr : it->second.context;
}

bool ContextTable::replace(const std::shared_ptr<ResidentContext>& known, const std::shared_ptr<ResidentContext>& better) {
  const std::scoped_lock lock(mutex_);
  const auto it = slots_.find(known->handle);
  if (it == slots_.end() || it->second.context != known) return false;
  it->second.context = better;
  evict();
  return true;
}

std::vector<std::shared_ptr<ResidentContext>> ContextTable::all() const {
  const std::scoped_lock lock(mutex_);
  std::vector<std::shared_ptr<ResidentContext>> out;
  out.reserve(slots_.size());
  for (const auto& [handle, slot] : slots_) out.push_back(slot.context);
  return out;
}

void ContextTable::evict() {
  const auto total = [&] {
    std::uint64_t sum = 0;
    for (const auto& [handle, slot] : slots_) sum += slot.context->segment->size_bytes();
    return sum;
  };
  while (total() > budget_bytes_) {
    auto oldest = slots_.end();
    for (auto it = slots_.begin(); it != slots_.end(); ++it) {
      const bool idle = it->second.context.use_count() == 1;
      if (idle && (oldest == slots_.end() || it->second.used < oldest->second.used)) oldest = it;
    }
    if (oldest == slots_.end()) return;
    slots_.erase(oldest);
  }
}

std::uint64_t ContextTable::bytes() const {
  const std::scoped_lock lock(mutex_);
  std::uint64_t sum = 0;
  for (const auto& [handle, slot] : slots_) sum += slot.context->segment->size_bytes();
  return sum;
}

std::size_t ContextTable::size() const {
  const std::scoped_lock lock(mutex_);
  return slots_.size();
}

}  // namespace celslm
