// ContextLoad: what is watched while threads read, and what the engine computes.
#include <fmt/format.h>

#include <algorithm>

#include "plan/layer_work.h"
#include "serve/load/block_import.h"
#include "serve/load/context_load.h"

namespace celslm {

void ContextLoad::supervise(std::stop_token stop, bool with_keeping) {
  while (!stop.stop_requested()) {
    keep_computed();
    {
      std::unique_lock lock(mutex_);
      if (nothing_more(with_keeping)) return;
      tick();
    }
    // The engine may have nothing else to do than to look at the clock, as the plan does.
    context_.changed();
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, stop, LoadPlan::patience(), [&] { return nothing_more(with_keeping); });
  }
}

bool ContextLoad::nothing_more(bool with_keeping) const {
  if (!plan_.complete()) return !plan_.any_source_alive();
  if (!with_keeping) return true;
  if (!computed_.empty()) return false;
  const std::scoped_lock lock(keep_mutex_);
  // Blocks that wait for a cloud's word on them wait until it has had its last.
  return !keeper_.wants_anything() ||
         std::ranges::all_of(suppliers_, [&](const Supplier& s) { return s.opened || !plan_.alive(s.id); });
}

void ContextLoad::tick() {
  for (const TransferId late : plan_.stalled(now(), kBlockDeadline)) {
    Cut& cut = cuts_.at(late);
    cut.overdue = true;
    cut.stop.request_stop();
  }
  for (auto& [flight, cut] : cuts_) {
    if (!plan_.is_needed(flight)) cut.stop.request_stop();
  }
  if (report_.predicted_ms > 0 || plan_.complete()) return;
  // The first forecast that rests on measurements of everything it speaks of.
  const Forecast ahead = plan_.forecast(now());
  const bool measured = plan_.layer_s() > 0 || ahead.order == FetchOrder::kShallowFirst;
  if (measured && std::isfinite(ahead.seconds) && ahead.seconds > 0)
    report_.predicted_ms = milliseconds(now() - began_) + ahead.seconds * 1e3;
}

void ContextLoad::keep_computed() {
  for (;;) {
    ComputedLayer next;
    {
      const std::scoped_lock lock(mutex_);
      if (computed_.empty()) return;
      next = std::move(computed_.front());
      computed_.pop_front();
    }
    const std::scoped_lock lock(keep_mutex_);
    keeper_.put_computed(next.layer, next.k, next.v);
  }
}

void ContextLoad::commit(std::stop_token stop) {
  {
    const std::scoped_lock lock(keep_mutex_);
    if (!keeper_.whole()) return;
  }
  for (Supplier& supplier : suppliers_) {
    if (!supplier.opened || stop.stop_requested()) continue;
    const auto header = supplier.source->header(stop);
    const std::scoped_lock lock(keep_mutex_);
    const Status kept = header ? keeper_.commit(*header) : std::unexpected(header.error());
    if (kept) return;
    parts_.log->warn("this pack will not be kept on disk: {}", kept.error().message);
  }
}

void ContextLoad::conclude() {
  report_.took_ms = milliseconds(now() - began_);
  context_.set_load_report(report_);
  if (plan_.layer_measured()) parts_.memory->computed(plan_.layer_s() / layer_work(identity_.n_tokens()));
  std::array<int, 5> layers{};
  for (int layer = 0; layer < plan_.shape().n_layers; ++layer) ++layers[static_cast<std::size_t>(origin_of(layer).source)];
  std::string from;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (layers[i] > 0)
      from += fmt::format("{}{} from {}", from.empty() ? "" : ", ", layers[i], to_string(static_cast<Source>(i)));
  }
  parts_.log->info("context {}: {} tokens in {:.0f} ms (predicted: {:.0f}); layers: {}{}{}",
                   context_.handle.hex().substr(0, 12), identity_.n_tokens(), report_.took_ms, report_.predicted_ms, from,
                   note_.empty() ? "" : "; ", note_);
}

// --- compute ----------------------------------------------------------------------------------------------------------

bool ContextLoad::wants_unit() {
  const std::scoped_lock lock(mutex_);
  return plan_.wants_compute(now());
}

void ContextLoad::unit_computed(double part, TimePoint began) {
  const std::scoped_lock lock(mutex_);
  plan_.unit_computed(part, began, now());
}

bool ContextLoad::wants_rows() const {
  const std::scoped_lock lock(keep_mutex_);
  return keeper_.wants_anything();
}

void ContextLoad::layer_computed(int layer, KvSegment& from, std::vector<float> k, std::vector<float> v) {
  std::vector<int> blocks;
  {
    const std::scoped_lock lock(mutex_);
    blocks = plan_.claim_layer(layer);
  }
  for (const int block : blocks) copy_block(identity_, block, from, *context_.segment);
  std::unique_lock lock(mutex_);
  for (const int block : blocks) block_held(block, Source::kCompute);
  if (!k.empty()) computed_.push_back({layer, std::move(k), std::move(v)});
  publish(std::move(lock));
  changed_.notify_all();
}

void ContextLoad::set_deadline(TimePoint deadline) {
  const std::scoped_lock lock(mutex_);
  plan_.set_deadline(deadline);
}

}  // namespace celslm
