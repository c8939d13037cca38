// What an edge does while nobody asks for anything: contexts are loaded before they are asked for, and exact KV takes the
// place of what came by an approximate codec. One context at a time.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "serve/edge/edge_service.h"

namespace celslm {

bool EdgeService::idle() const {
  return requests_under_way() == 0 && !loader_->busy();
}

void EdgeService::use_idle_time() {
  if (!idle() || refine_one()) return;
  prefetch_one();
}

// Requests that are being answered keep the KV they began with; the next one finds the exact KV.
bool EdgeService::refine_one() {
  if (!options_.refine) return false;
  const Codec* const exact = options_.load.codecs.rungs().front().codec;
  if (!exact->exact_for()) return false;
  for (const auto& coarse : table_.all()) {
    const std::string codec = coarse->report().codec;
    if (!coarse->complete() || codec == exact->name() || find_codec(codec).value()->exact_for()) continue;
    auto better = ResidentContext::create(coarse->handle, parts_.model->config(), coarse->id, coarse->tokens, context_type_);
    if (!better) continue;
    loader_->load(*better, {exact, fmt::format("took the place of {}", codec)}, [this, coarse, better = *better] {
      if (better->complete() && table_.replace(coarse, better)) metrics_.loaded_idly("refine");
    });
    return true;
  }
  return false;
}

void EdgeService::prefetch_one() {
  std::optional<ContextHandle> next;
  {
    const std::scoped_lock lock(mutex_);
    if (n_prefetched_ >= options_.max_prefetched) return;
    const auto wanted = std::ranges::find_if(
        registered_, [&](const auto& known) { return !considered_.contains(known.first) && !table_.find(known.first); });
    if (wanted != registered_.end()) next = wanted->first;
  }
  if (!next) return;
  considered_.insert(*next);
  const auto text = text_of(*next);
  if (!text) return;
  const auto tokens = parts_.model->text().context(*text);
  if (!tokens) return;
  // Nothing that somebody has asked for gives way to what nobody has.
  const std::size_t bytes =
      KvSegment::resident_bytes(parts_.model->config(), context_type_, static_cast<int>(tokens->size()));
  if (table_.bytes() + bytes > table_.budget_bytes()) return;
  bool was_complete = false;
  if (!resident(*text, &was_complete)) return;
  ++n_prefetched_;
  metrics_.loaded_idly("prefetch");
}

}  // namespace celslm
