#include "plan/load_coordinator.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace celslm {
namespace {

// Without anything under way only slow things change with time alone: whether somebody computes, or the deadline.
constexpr Duration kQuietReview = std::chrono::milliseconds(250);

}  // namespace

LoadCoordinator::LoadCoordinator(LoadShape shape, const PlanOptions& options, const Clock& clock, WorkPlaces& places)
    : clock_(clock), places_(places), began_(clock.now()), plan_(std::move(shape), options, began_) {}

// --- its owner --------------------------------------------------------------------------------------------------------

SourceId LoadCoordinator::add_source(const SourceTraits& traits) {
  const SourceId id = plan_.add_source(traits, now());
  sources_.push_back({.phase = ending() ? SourcePhase::kFailed : SourcePhase::kWaiting});
  if (ending()) plan_.drop(id);
  return id;
}

void LoadCoordinator::start() {
  phase_ = Phase::kLoading;
  settle();
}

void LoadCoordinator::fell_back() {
  if (phase_ == Phase::kFallingBack) phase_ = Phase::kLoading;
  settle();
}

void LoadCoordinator::stop() {
  stopped_ = true;
  if (phase_ == Phase::kNew) phase_ = Phase::kLoading;
  settle();
}

void LoadCoordinator::closed() {
  phase_ = Phase::kClosed;
}

std::optional<TimePoint> LoadCoordinator::review_at() const {
  if (phase_ != Phase::kLoading || plan_.complete()) return std::nullopt;
  if (!work_.empty() || any(SourcePhase::kOpening)) return now() + LoadPlan::patience();
  if (plan_.any_source_alive()) return now() + kQuietReview;
  return std::nullopt;
}

void LoadCoordinator::tick() {
  for (const TransferId id : plan_.stalled(now(), kTransferTimeout)) {
    Work& work = work_.at(id);
    cancel(work, true);
    plan_.ended(id, TransferEnd::kFailed, now());
    work.ended = true;
  }
  settle();
}

// --- work on sources --------------------------------------------------------------------------------------------------

void LoadCoordinator::offered(SourceId source, BlockRange blocks) {
  plan_.offer(source, blocks);
  settle();
}

void LoadCoordinator::opened(SourceId source, bool success) {
  source_at(source).phase = success ? SourcePhase::kOpened : SourcePhase::kFailed;
  if (!success) plan_.drop(source);
  settle();
}

void LoadCoordinator::arrived(TransferId transfer, std::uint64_t bytes) {
  if (!work_.at(transfer).ended) plan_.bytes_arrived(transfer, bytes, now());
}

bool LoadCoordinator::verified(TransferId transfer, int block) {
  const bool mine = work_.at(transfer).ended ? plan_.claim(block) : plan_.claim_next(transfer, now());
  settle();
  return mine;
}

bool LoadCoordinator::is_needed(TransferId transfer) const {
  const Work& work = work_.at(transfer);
  return !work.ended && !work.cancelled && plan_.is_needed(transfer);
}

void LoadCoordinator::ended(TransferId transfer, TransferEnd how) {
  if (!work_.at(transfer).ended) plan_.ended(transfer, how, now());
  work_.erase(transfer);
  settle();
}

// --- blocks -----------------------------------------------------------------------------------------------------------

void LoadCoordinator::written(int block) {
  plan_.written(block);
  const int layer = plan_.shape().layer_of(block);
  if (plan_.layer_complete(layer)) orders_.emplace_back(LayerComplete{layer});
  settle();
}

void LoadCoordinator::released(int block) {
  plan_.released(block);
  settle();
}

// A pack that is complete or given up stays so.
void LoadCoordinator::keeping(const PackKeeping& now) {
  const bool first = phase_ == Phase::kNew;
  keeping_.wants_blocks = now.wants_blocks && (first || keeping_.wants_blocks);
  keeping_.complete |= now.complete;
  settle();
}

void LoadCoordinator::rows_to_keep() {
  rows_waiting_ = !ending();
  settle();
}

void LoadCoordinator::rows_kept() {
  rows_busy_ = false;
  settle();
}

// --- the engine -------------------------------------------------------------------------------------------------------

bool LoadCoordinator::wants_unit() {
  const bool wants = plan_.wants_compute(now());
  engine_waits_ = !wants;
  settle();  // that it asks, too, may change what is asked of sources
  return wants;
}

void LoadCoordinator::unit_computed(double part, TimePoint began) {
  plan_.unit_computed(part, began, now());
  settle();
}

std::vector<int> LoadCoordinator::claim_layer(int layer) {
  return plan_.claim_layer(layer);
}

void LoadCoordinator::layer_written(std::span<const int> blocks) {
  for (const int block : blocks) plan_.written(block);
  if (!blocks.empty()) {
    const int layer = plan_.shape().layer_of(blocks.front());
    if (plan_.layer_complete(layer)) orders_.emplace_back(LayerComplete{layer});
  }
  settle();
}

void LoadCoordinator::set_deadline(TimePoint deadline) {
  plan_.set_deadline(deadline);
  settle();
}

// --- what follows -----------------------------------------------------------------------------------------------------

bool LoadCoordinator::any(SourcePhase phase) const {
  return std::ranges::contains(sources_, phase, &SourceStatus::phase);
}

// Whether no source will announce anything more.
bool LoadCoordinator::all_announced() const {
  return !any(SourcePhase::kWaiting) && !any(SourcePhase::kOpening);
}

// Whether the sources can be left: the context is complete and kept as far as it will be, or nobody supplies any more.
bool LoadCoordinator::nothing_more() const {
  if (!plan_.complete()) return !plan_.any_source_alive();
  if (rows_waiting_ || rows_busy_) return false;
  if (all_announced()) return true;
  // Blocks to be kept may still be waiting for their announcement. When all are kept, the pack's header is still needed: a
  // source has it once its opening has ended.
  return !keeping_.wants_blocks && (!keeping_.complete || any(SourcePhase::kOpened));
}

void LoadCoordinator::settle() {
  if (phase_ == Phase::kLoading || phase_ == Phase::kFallingBack) {
    cancel_needless();
    report_spent();
    predict();
    if (stopped_) {
      end();
    } else if (phase_ == Phase::kLoading) {
      keep_rows();
      if (!nothing_more()) dispatch();
      if (nothing_more()) {
        if (!plan_.complete() && !std::exchange(fell_back_, true)) {
          phase_ = Phase::kFallingBack;
          orders_.emplace_back(FallBack{});
        } else {
          end();
        }
      }
    }
  }
  if (phase_ == Phase::kEnding) try_close();
  wake_engine();
}

void LoadCoordinator::report_spent() {
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    const auto id = static_cast<SourceId>(i);
    if (!plan_.complete() && plan_.spent(id) && !std::exchange(sources_[i].spent, true))
      orders_.emplace_back(SourceSpent{id});
  }
}

void LoadCoordinator::dispatch() {
  if (plan_.complete() && !keeping_.wants_blocks && !keeping_.complete) return;
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    const auto id = static_cast<SourceId>(i);
    if (!plan_.alive(id)) continue;
    if (sources_[i].phase == SourcePhase::kWaiting && !open(id)) continue;
    while (read(id)) {
    }
  }
}

bool LoadCoordinator::open(SourceId source) {
  if (!take_place(LoadWork::kOpen)) return false;
  source_at(source).phase = SourcePhase::kOpening;
  const auto early = plan_.next_with_header(source, now());
  if (early) work_[early->id] = {.transfer = *early};
  orders_.emplace_back(OpenSource{source, early});
  return true;
}

// Begins one transfer, if one should begin and can.
bool LoadCoordinator::read(SourceId source) {
  if (plan_.complete() || !plan_.wants_transfer(source) || !take_place(LoadWork::kRead)) return false;
  const auto transfer = plan_.next(source, now());
  if (!transfer) {
    places_.put_back(LoadWork::kRead);
    return false;
  }
  work_[transfer->id] = {.transfer = *transfer};
  orders_.emplace_back(ReadBlocks{*transfer});
  return true;
}

bool LoadCoordinator::take_place(LoadWork work) {
  const auto taken = places_.take(work);
  if (taken && *taken) ever_worked_ = true;
  if (taken) return *taken;
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    plan_.drop(static_cast<SourceId>(i));
    if (sources_[i].phase == SourcePhase::kWaiting) sources_[i].phase = SourcePhase::kFailed;
  }
  fell_back_ = true;  // others could not be asked either
  orders_.emplace_back(GiveUpSources{taken.error()});
  return false;
}

void LoadCoordinator::cancel(Work& work, bool stalled) {
  if (std::exchange(work.cancelled, true)) return;
  orders_.emplace_back(CancelTransfer{work.transfer.id, work.transfer.source, stalled});
}

// What has brought its last block ends in a moment, and its connection can be used again.
void LoadCoordinator::cancel_needless() {
  for (auto& [id, work] : work_) {
    if (!work.ended && !plan_.is_needed(id) && !plan_.all_arrived(id)) cancel(work, false);
  }
}

void LoadCoordinator::keep_rows() {
  if (!rows_waiting_ || rows_busy_) return;
  const auto taken = places_.take(LoadWork::kKeep);
  if (taken && !*taken) return;
  rows_waiting_ = false;
  if (!taken) return;  // nobody can be found to keep them
  ever_worked_ = rows_busy_ = true;
  orders_.emplace_back(KeepRows{});
}

void LoadCoordinator::end() {
  phase_ = Phase::kEnding;
  rows_waiting_ = false;
  cancel_needless();
  for (auto& [id, work] : work_) {
    if (stopped_ || !plan_.complete()) cancel(work, false);
  }
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    const auto id = static_cast<SourceId>(i);
    plan_.drop(id);
    if (sources_[i].phase == SourcePhase::kOpening) orders_.emplace_back(CancelOpening{id});
    if (sources_[i].phase == SourcePhase::kWaiting) sources_[i].phase = SourcePhase::kFailed;
  }
}

void LoadCoordinator::try_close() {
  if (!work_.empty() || any(SourcePhase::kOpening) || rows_busy_) return;
  if (ever_worked_) {
    const auto taken = places_.take(LoadWork::kKeep);
    if (!taken || !*taken) return;  // whoever has worked gives back its place
  }
  phase_ = Phase::kClosing;
  orders_.emplace_back(CloseLoad{ever_worked_});
}

// Also where it has not asked for long: one that does not ask is not counted on, and this one waits for a reason to.
void LoadCoordinator::wake_engine() {
  if (!engine_waits_ || (!plan_.would_compute(now()) && plan_.asked_lately(now()))) return;
  engine_waits_ = false;
  orders_.emplace_back(WakeEngine{});
}

void LoadCoordinator::predict() {
  if (predicted_s_ || plan_.complete()) return;
  const Forecast ahead = plan_.forecast(now());
  const bool measured = plan_.layer_s() > 0 || ahead.order == FetchOrder::kShallowFirst;
  if (measured && std::isfinite(ahead.seconds) && ahead.seconds > 0) predicted_s_ = seconds(now() - began_) + ahead.seconds;
}

}  // namespace celslm
