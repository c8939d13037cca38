#include "serve/load/load_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "plan/layer_work.h"

namespace celslm {
namespace {

// The user's own tokens through a layer cost as much as this many of the context's: a question of a few dozen tokens, whose
// products are too small to be efficient.
constexpr double kOwnTokens = 32;

LoadShape shape_of(const PackIdentity& identity) {
  LoadShape out{.n_layers = static_cast<int>(identity.model.n_layers), .blocks_per_layer = identity.blocks_per_layer()};
  // Where the length varies, the most it can be: the plan compares blocks' sizes and need not know them to the byte.
  for (int i = 0; i < identity.n_blocks(); ++i)
    out.block_bytes.push_back(static_cast<std::uint32_t>(block_bytes(identity, i).most));
  return out;
}

PlanOptions complete_options(PlanOptions options, const SourceMemory& memory, int n_tokens) {
  options.own_share = kOwnTokens / std::max(n_tokens, 1);
  options.layer_s = memory.compute_s_per_work() * layer_work(n_tokens);
  return options;
}

}  // namespace

LoadState::LoadState(const LoadParts& parts, ResidentContext& context, const PackIdentity& identity,
                     const PlanOptions& options)
    : parts_(parts),
      context_(context),
      identity_(identity),
      began_(parts.clock->now()),
      changed_(*parts.clock),
      plan_(shape_of(identity), complete_options(options, *parts.memory, identity.n_tokens()), began_),
      blocks_from_(identity.model.n_layers) {}

void LoadState::notify() {
  ++changes_;
  changed_.notify_all();
}

void LoadState::note(const std::string& why) {
  const MutexLock lock(mutex_);
  add_note(why);
}

void LoadState::add_note(const std::string& why) {
  note_ += (note_.empty() ? "" : "; ") + why;
  context_.set_note(note_);
}

// --- sources ----------------------------------------------------------------------------------------------------------

SourceId LoadState::add_source(Source kind, std::string name, const SourceTraits& traits) {
  const MutexLock lock(mutex_);
  sources_.push_back(
      {.kind = kind, .name = std::move(name), .entries = std::vector<BlockEntry>(plan_.shape().block_bytes.size())});
  return plan_.add_source(traits, now());
}

void LoadState::offer(SourceId source, int first, std::span<const BlockEntry> entries) {
  const MutexLock lock(mutex_);
  std::ranges::copy(entries, record(source).entries.begin() + first);
  plan_.offer(source, {first, static_cast<int>(entries.size())});
  notify();
}

void LoadState::opened(SourceId source, const Status& status) {
  const MutexLock lock(mutex_);
  SourceRecord& opened = record(source);
  opened.opened = status.has_value();
  if (!status) {
    if (!plan_.complete()) {
      opened.error = status.error();
      add_note(status.error().message);
    }
    plan_.drop(source);
    if (status.error().kind == ErrorKind::kUnavailable) back_off(opened);
  }
  notify();
}

bool LoadState::is_opened(SourceId source) const {
  const MutexLock lock(mutex_);
  return record(source).opened;
}

bool LoadState::any_opened() const {
  const MutexLock lock(mutex_);
  return std::ranges::any_of(sources_, &SourceRecord::opened);
}

bool LoadState::all_announced() const {
  const MutexLock lock(mutex_);
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    if (!sources_[i].opened && plan_.alive(static_cast<SourceId>(i))) return false;
  }
  return true;
}

std::vector<BlockEntry> LoadState::entries(SourceId source, BlockRange blocks) const {
  const MutexLock lock(mutex_);
  const auto first = record(source).entries.begin() + blocks.first;
  return {first, first + blocks.count};
}

void LoadState::retire_sources() {
  const MutexLock lock(mutex_);
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    const auto id = static_cast<SourceId>(i);
    parts_.memory->keep_link(sources_[i].name, plan_.estimate(id));
    plan_.drop(id);
  }
}

void LoadState::back_off(const SourceRecord& source) {
  parts_.memory->back_off(source.name, now() + kSourceBackoff);
}

// --- transfers --------------------------------------------------------------------------------------------------------

ActiveTransfer LoadState::activate(const Transfer& transfer) {
  return {.id = transfer.id,
          .blocks = transfer.blocks,
          .next = transfer.blocks.first,
          .checked = {},
          .cancel = cancels_[transfer.id].stop};
}

std::optional<ActiveTransfer> LoadState::next_with_header(SourceId source) {
  const MutexLock lock(mutex_);
  const auto transfer = plan_.next_with_header(source, now());
  if (!transfer) return std::nullopt;
  return activate(*transfer);
}

std::optional<ActiveTransfer> LoadState::wait_for_transfer(SourceId source, std::stop_token stop) {
  const MutexLock lock(mutex_);
  while (!stop.stop_requested() && !plan_.complete() && plan_.alive(source)) {
    if (const auto transfer = plan_.next(source, now())) return activate(*transfer);
    const std::uint64_t seen = changes_;
    changed_.wait_for(mutex_, stop, LoadPlan::patience(), [&]() CELSLM_REQUIRES(mutex_) { return changes_ != seen; });
  }
  return std::nullopt;
}

void LoadState::bytes_arrived(TransferId transfer, std::size_t bytes) {
  const MutexLock lock(mutex_);
  plan_.bytes_arrived(transfer, bytes, now());
}

bool LoadState::claim_next(TransferId transfer, std::size_t bytes) {
  const MutexLock lock(mutex_);
  const bool mine = plan_.claim_next(transfer, now());
  if (!mine) {
    report_.hedged_bytes += bytes;
    if (parts_.observer) parts_.observer->wasted(bytes);
  }
  return mine;
}

bool LoadState::is_needed(TransferId transfer) const {
  const MutexLock lock(mutex_);
  return plan_.is_needed(transfer);
}

void LoadState::ended(SourceId source, const ActiveTransfer& transfer, const Status& read, bool stopping) {
  const MutexLock lock(mutex_);
  SourceRecord& from = record(source);
  const bool stalled = cancels_.at(transfer.id).stalled;
  cancels_.erase(transfer.id);
  plan_.ended(transfer.id, stopping ? TransferEnd::kDone : how_it_ended(from, transfer, read, stalled), now());
  if (!plan_.alive(source) && from.error && !plan_.complete()) {
    add_note(from.error->message);
    if (is_network(from.kind) && from.error->kind == ErrorKind::kUnavailable) back_off(from);
  }
  notify();
}

TransferEnd LoadState::how_it_ended(SourceRecord& source, const ActiveTransfer& transfer, const Status& read, bool stalled) {
  if (!transfer.checked) {
    source.error = transfer.checked.error();
    return source.kind == Source::kDisk ? TransferEnd::kRefused : TransferEnd::kFailed;
  }
  if (stalled) {
    source.error = Error{ErrorKind::kUnavailable,
                         fmt::format("{} sent nothing for {} s", source.name,
                                     std::chrono::duration_cast<std::chrono::seconds>(kTransferTimeout).count())};
    return TransferEnd::kFailed;
  }
  if (read || read.error().kind == ErrorKind::kCancelled) return TransferEnd::kDone;
  source.error = read.error();
  const bool hopeless = read.error().kind == ErrorKind::kNotFound || read.error().kind == ErrorKind::kUnauthorized;
  return hopeless ? TransferEnd::kRefused : TransferEnd::kFailed;
}

// --- blocks and layers ------------------------------------------------------------------------------------------------

bool LoadState::claim(int block) {
  const MutexLock lock(mutex_);
  return plan_.claim(block);
}

void LoadState::released(int block) {
  const MutexLock lock(mutex_);
  plan_.released(block);
}

void LoadState::written(int block, Source source) {
  MutexLock lock(mutex_);
  block_written(block, source);
  const auto layers = take_filled();
  lock.unlock();
  announce_layers(layers);
}

void LoadState::block_written(int block, Source source) {
  plan_.written(block);
  const int layer = plan_.shape().layer_of(block);
  ++blocks_from_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(source)];
  if (plan_.layer_complete(layer)) filled_.push_back(layer);
}

LayerOrigin LoadState::origin_of(int layer) const {
  const auto& counts = blocks_from_[static_cast<std::size_t>(layer)];
  const auto most = static_cast<Source>(std::ranges::max_element(counts) - counts.begin());
  return {.provenance = provenance_of(layer, most), .source = most, .after = now() - began_, .blocks = counts};
}

// A layer of a studied pack is computed here as a whole, or not at all.
Provenance LoadState::provenance_of(int layer, Source most) const {
  const bool any_computed = blocks_from_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(Source::kCompute)] > 0;
  const bool computed = identity_.studied() ? any_computed : most == Source::kCompute;
  if (identity_.studied() && !computed) return Provenance::kStudied;
  if (parts_.tuning) return Provenance::kTuned;
  if (computed) return Provenance::kNative;
  return identity_.map == Hash256{} || layer < identity_.split ? Provenance::kProxy : identity_.provenance;
}

std::vector<std::pair<int, LayerOrigin>> LoadState::take_filled() {
  std::vector<std::pair<int, LayerOrigin>> layers;
  for (const int layer : std::exchange(filled_, {})) layers.emplace_back(layer, origin_of(layer));
  if (plan_.complete() && report_.took_ms == 0) {
    conclude();
    notify();
  }
  return layers;
}

void LoadState::announce_layers(const std::vector<std::pair<int, LayerOrigin>>& layers) {
  for (const auto& [layer, origin] : layers) context_.layer_filled(layer, origin);
}

void LoadState::conclude() {
  report_.took_ms = milliseconds(now() - began_);
  context_.set_load_report(report_);
  if (plan_.layer_measured()) parts_.memory->computed(plan_.layer_s() / layer_work(identity_.n_tokens()));
  LoadSummary summary{.codec = context_.report().codec, .report = report_};
  auto& layers = summary.layers;
  for (int layer = 0; layer < plan_.shape().n_layers; ++layer) ++layers[static_cast<std::size_t>(origin_of(layer).source)];
  if (parts_.observer) parts_.observer->completed(summary);
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

bool LoadState::wants_compute() {
  const MutexLock lock(mutex_);
  return plan_.wants_compute(now());
}

void LoadState::unit_computed(double part, TimePoint began) {
  const MutexLock lock(mutex_);
  plan_.unit_computed(part, began, now());
}

std::vector<int> LoadState::claim_layer(int layer) {
  const MutexLock lock(mutex_);
  return plan_.claim_layer(layer);
}

void LoadState::layer_written(std::span<const int> blocks) {
  MutexLock lock(mutex_);
  for (const int block : blocks) block_written(block, Source::kCompute);
  const auto layers = take_filled();
  notify();
  lock.unlock();
  announce_layers(layers);
}

void LoadState::set_deadline(TimePoint deadline) {
  const MutexLock lock(mutex_);
  plan_.set_deadline(deadline);
}

// --- supervision ------------------------------------------------------------------------------------------------------

LoadState::Progress LoadState::progress() const {
  const MutexLock lock(mutex_);
  if (plan_.complete()) return Progress::kComplete;
  return plan_.any_source_alive() ? Progress::kLoading : Progress::kNoSourceLeft;
}

std::uint64_t LoadState::changes() const {
  const MutexLock lock(mutex_);
  return changes_;
}

void LoadState::wait_for_change(std::uint64_t seen, std::stop_token stop) {
  const MutexLock lock(mutex_);
  changed_.wait_for(mutex_, stop, LoadPlan::patience(), [&]() CELSLM_REQUIRES(mutex_) { return changes_ != seen; });
}

void LoadState::check_transfers() {
  const MutexLock lock(mutex_);
  for (const TransferId id : plan_.stalled(now(), kTransferTimeout)) {
    Cancel& cancel = cancels_.at(id);
    cancel.stalled = true;
    cancel.stop.request_stop();
  }
  for (auto& [id, cancel] : cancels_) {
    if (!plan_.is_needed(id)) cancel.stop.request_stop();
  }
  if (report_.predicted_ms > 0 || plan_.complete()) return;
  // The first forecast that rests on measurements of everything it depends on.
  const Forecast ahead = plan_.forecast(now());
  const bool measured = plan_.layer_s() > 0 || ahead.order == FetchOrder::kShallowFirst;
  if (measured && std::isfinite(ahead.seconds) && ahead.seconds > 0)
    report_.predicted_ms = milliseconds(now() - began_) + ahead.seconds * 1e3;
}

}  // namespace celslm
