#include "serve/load/load_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <utility>
#include <variant>

#include "plan/layer_work.h"

namespace celslm {
namespace {

// The user's own tokens through a layer cost as much as this many of the context's: a question of a few dozen tokens, whose
// products are too small to be efficient.
constexpr double kOwnTokens = 32;

LoadShape shape_of(const PackIdentity& identity) {
  const auto n_layers = static_cast<int>(identity.model.n_layers);
  LoadShape out{.n_layers = n_layers, .blocks_per_layer = identity.blocks_per_layer()};
  for (int layer = 0; !identity.model.states.empty() && layer <= n_layers; ++layer)
    out.first_blocks.push_back(identity.first_block(layer));
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
                     const PlanOptions& options, WorkPlaces& places, LoadHands& hands)
    : parts_(parts),
      context_(context),
      identity_(identity),
      hands_(hands),
      began_(parts.clock->now()),
      coordinator_(shape_of(identity), complete_options(options, *parts.memory, identity.n_tokens()), *parts.clock, places),
      blocks_from_(identity.model.n_layers) {}

// --- orders -----------------------------------------------------------------------------------------------------------

void LoadState::carry_out() {
  for (const LoadOrder& order : coordinator_.take_orders()) {
    auto effect = std::visit([&](const auto& o) CELSLM_REQUIRES(mutex_) { return effect_of(o); }, order);
    if (effect) effects_.push_back(std::move(effect));
  }
  set_review();
  if (carrying_out_) return;
  carrying_out_ = true;
  while (!effects_.empty()) {
    const Effect effect = std::move(effects_.front());
    effects_.pop_front();
    mutex_.unlock();
    try {
      effect();
    } catch (const std::exception& error) {  // of this load: others go on, and the plan does not rely on what is late
      parts_.log->error("an order of a load could not be carried out: {}", error.what());
    }
    mutex_.lock();
  }
  carrying_out_ = false;
}

void LoadState::set_review() {
  const auto wanted = coordinator_.review_at();
  if (!wanted || (review_ && *review_ <= *wanted)) return;
  review_ = wanted;
  hands_.review_at(*wanted);
}

void LoadState::tick() {
  const MutexLock lock(mutex_);
  if (!review_ || now() < *review_) return;  // asked for before an earlier one was
  review_.reset();
  coordinator_.tick();
  carry_out();
}

ActiveTransfer LoadState::activate(const Transfer& transfer) {
  return {.id = transfer.id,
          .blocks = transfer.blocks,
          .next = transfer.blocks.first,
          .checked = {},
          .cancel = cancels_[transfer.id]};
}

LoadState::Effect LoadState::effect_of(const OpenSource& order) {
  std::optional<ActiveTransfer> early;
  if (order.early) early = activate(*order.early);
  return [this, source = order.source, early] { hands_.open(source, early); };
}

LoadState::Effect LoadState::effect_of(const ReadBlocks& order) {
  return [this, source = order.transfer.source, transfer = activate(order.transfer)] { hands_.read(source, transfer); };
}

LoadState::Effect LoadState::effect_of(const CancelTransfer& order) {
  if (order.stalled) {
    SourceRecord& source = record(order.source);
    source.error = Error{ErrorKind::kUnavailable,
                         fmt::format("{} sent nothing for {} s", source.name,
                                     std::chrono::duration_cast<std::chrono::seconds>(kTransferTimeout).count())};
    note_if_dead(order.source);
  }
  return [cancel = cancels_.at(order.transfer)]() mutable { cancel.request_stop(); };
}

LoadState::Effect LoadState::effect_of(const CancelOpening& order) {
  return [this, source = order.source] { hands_.cancel_opening(source); };
}

LoadState::Effect LoadState::effect_of(const LayerComplete& order) {
  const LayerOrigin origin = origin_of(order.layer);
  // Before the last layer can be used: whoever has its answer finds the load counted.
  if (coordinator_.plan().complete() && !std::exchange(concluded_, true)) conclude();
  return [this, layer = order.layer, origin] { context_.layer_filled(layer, origin); };
}

LoadState::Effect LoadState::effect_of(const WakeEngine&) {
  return [this] { context_.changed(); };
}

LoadState::Effect LoadState::effect_of(const FallBack&) {
  return [this] {
    hands_.fall_back();
    fell_back();
  };
}

LoadState::Effect LoadState::effect_of(const GiveUpSources& order) {
  add_note(order.why.message);
  return {};
}

LoadState::Effect LoadState::effect_of(const SourceSpent&) {
  if (!std::exchange(budget_noted_, true))
    add_note("this hour's bytes are used up (--max-bytes-per-hour): the rest is computed");
  return {};
}

LoadState::Effect LoadState::effect_of(const KeepRows&) {
  return [this] { hands_.keep_rows(); };
}

LoadState::Effect LoadState::effect_of(const CloseLoad& order) {
  return [this, on_worker = order.on_worker] { hands_.close(on_worker); };
}

// --- the owner --------------------------------------------------------------------------------------------------------

SourceId LoadState::add_source(Source kind, std::string name, const SourceTraits& traits) {
  const MutexLock lock(mutex_);
  sources_.push_back({.kind = kind,
                      .name = std::move(name),
                      .entries = std::vector<BlockEntry>(coordinator_.plan().shape().block_bytes.size())});
  return coordinator_.add_source(traits);
}

void LoadState::start() {
  const MutexLock lock(mutex_);
  coordinator_.start();
  carry_out();
}

void LoadState::fell_back() {
  const MutexLock lock(mutex_);
  coordinator_.fell_back();
  carry_out();
}

void LoadState::stop() {
  const MutexLock lock(mutex_);
  stopped_ = true;
  coordinator_.stop();
  carry_out();
}

bool LoadState::stopped() const {
  const MutexLock lock(mutex_);
  return stopped_;
}

void LoadState::closed() {
  const MutexLock lock(mutex_);
  for (std::size_t i = 0; i < sources_.size(); ++i)
    parts_.memory->keep_link(sources_[i].name, coordinator_.plan().estimate(static_cast<SourceId>(i)));
  coordinator_.closed();
  carry_out();
}

void LoadState::places_free() {
  const MutexLock lock(mutex_);
  coordinator_.places_free();
  carry_out();
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

void LoadState::offer(SourceId source, int first, std::span<const BlockEntry> entries) {
  const MutexLock lock(mutex_);
  std::ranges::copy(entries, record(source).entries.begin() + first);
  coordinator_.offered(source, {first, static_cast<int>(entries.size())});
  carry_out();
}

void LoadState::opened(SourceId source, const Status& status) {
  const MutexLock lock(mutex_);
  const bool matters = !status && !coordinator_.ending();
  if (matters) {
    record(source).error = status.error();
    report_refused(record(source));
  }
  coordinator_.opened(source, status.has_value());
  if (matters) note_if_dead(source);
  carry_out();
}

bool LoadState::is_opened(SourceId source) const {
  const MutexLock lock(mutex_);
  return coordinator_.is_open(source);
}

std::vector<BlockEntry> LoadState::entries(SourceId source, BlockRange blocks) const {
  const MutexLock lock(mutex_);
  const auto first = record(source).entries.begin() + blocks.first;
  return {first, first + blocks.count};
}

// For the user, once; a source that could not be reached is not asked again at once.
void LoadState::note_if_dead(SourceId id) {
  SourceRecord& source = record(id);
  if (coordinator_.plan().alive(id) || !source.error || source.noted) return;
  source.noted = true;
  if (is_network(source.kind) && source.error->kind == ErrorKind::kUnavailable)
    parts_.memory->back_off(source.name, now() + kSourceBackoff);
  if (!coordinator_.plan().complete()) add_note(source.error->message);
}

void LoadState::report_refused(const SourceRecord& source) {
  if (parts_.observer && source.error->kind == ErrorKind::kMismatch) parts_.observer->refused(source.kind);
}

void LoadState::bytes_arrived(TransferId transfer, std::size_t bytes) {
  const MutexLock lock(mutex_);
  coordinator_.arrived(transfer, bytes);
}

bool LoadState::verified(TransferId transfer, int block, std::size_t bytes) {
  const MutexLock lock(mutex_);
  const bool mine = coordinator_.verified(transfer, block);
  if (!mine) {
    report_.hedged_bytes += bytes;
    if (parts_.observer) parts_.observer->wasted(bytes);
  }
  carry_out();
  return mine;
}

bool LoadState::is_needed(TransferId transfer) const {
  const MutexLock lock(mutex_);
  return coordinator_.is_needed(transfer);
}

void LoadState::ended(SourceId source, const ActiveTransfer& transfer, const Status& read) {
  const MutexLock lock(mutex_);
  cancels_.erase(transfer.id);
  const bool ending = coordinator_.ending();
  coordinator_.ended(transfer.id, ending ? TransferEnd::kDone : how_it_ended(record(source), transfer, read));
  if (!ending) note_if_dead(source);
  carry_out();
}

TransferEnd LoadState::how_it_ended(SourceRecord& source, const ActiveTransfer& transfer, const Status& read) {
  if (!transfer.checked) {
    source.error = transfer.checked.error();
    report_refused(source);
    return source.kind == Source::kDisk ? TransferEnd::kRefused : TransferEnd::kFailed;
  }
  if (read || read.error().kind == ErrorKind::kCancelled) return TransferEnd::kDone;
  source.error = read.error();
  // kOverloaded: there is no memory for it, or no bytes are left of this hour's.
  const ErrorKind kind = read.error().kind;
  const bool hopeless = kind == ErrorKind::kNotFound || kind == ErrorKind::kUnauthorized || kind == ErrorKind::kOverloaded ||
                        source.kind == Source::kDisk;  // a file that has become shorter stays so
  return hopeless ? TransferEnd::kRefused : TransferEnd::kFailed;
}

// --- blocks and layers ------------------------------------------------------------------------------------------------

bool LoadState::claim(int block) {
  const MutexLock lock(mutex_);
  return coordinator_.claim(block);
}

void LoadState::released(int block) {
  const MutexLock lock(mutex_);
  coordinator_.released(block);
  carry_out();
}

void LoadState::written(int block, Source source) {
  const MutexLock lock(mutex_);
  count_block(block, source);
  coordinator_.written(block);
  carry_out();
}

void LoadState::count_block(int block, Source source) {
  const int layer = coordinator_.plan().shape().layer_of(block);
  ++blocks_from_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(source)];
}

void LoadState::keeping(const PackKeeping& now) {
  const MutexLock lock(mutex_);
  coordinator_.keeping(now);
  carry_out();
}

void LoadState::rows_to_keep() {
  const MutexLock lock(mutex_);
  coordinator_.rows_to_keep();
  carry_out();
}

void LoadState::rows_kept() {
  const MutexLock lock(mutex_);
  coordinator_.rows_kept();
  carry_out();
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

void LoadState::conclude() {
  const LoadPlan& plan = coordinator_.plan();
  report_.took_ms = milliseconds(now() - began_);
  report_.predicted_ms = coordinator_.predicted_s().value_or(0) * 1e3;
  context_.set_load_report(report_);
  if (plan.layer_measured()) parts_.memory->computed(plan.layer_s() / layer_work(identity_.n_tokens()));
  LoadSummary summary{.codec = context_.report().codec, .report = report_};
  for (int layer = 0; layer < plan.shape().n_layers; ++layer)
    ++summary.layers[static_cast<std::size_t>(origin_of(layer).source)];
  if (parts_.observer) parts_.observer->completed(summary);
  std::string from;
  for (std::size_t i = 0; i < summary.layers.size(); ++i) {
    if (summary.layers[i] > 0)
      from += fmt::format("{}{} from {}", from.empty() ? "" : ", ", summary.layers[i], to_string(static_cast<Source>(i)));
  }
  parts_.log->info("context {}: {} tokens in {:.0f} ms (predicted: {:.0f}); layers: {}{}{}",
                   context_.handle.hex().substr(0, 12), identity_.n_tokens(), report_.took_ms, report_.predicted_ms, from,
                   note_.empty() ? "" : "; ", note_);
}

// --- compute ----------------------------------------------------------------------------------------------------------

bool LoadState::wants_unit() {
  const MutexLock lock(mutex_);
  const bool wants = coordinator_.wants_unit();
  carry_out();
  return wants;
}

void LoadState::unit_computed(double part, TimePoint began) {
  const MutexLock lock(mutex_);
  coordinator_.unit_computed(part, began);
  carry_out();
}

std::vector<int> LoadState::claim_layer(int layer) {
  const MutexLock lock(mutex_);
  return coordinator_.claim_layer(layer);
}

std::vector<int> LoadState::blocks_written(int layer) const {
  const MutexLock lock(mutex_);
  return coordinator_.blocks_written(layer);
}

void LoadState::layer_written(std::span<const int> blocks) {
  const MutexLock lock(mutex_);
  for (const int block : blocks) count_block(block, Source::kCompute);
  coordinator_.layer_written(blocks);
  carry_out();
}

void LoadState::set_deadline(TimePoint deadline) {
  const MutexLock lock(mutex_);
  coordinator_.set_deadline(deadline);
  carry_out();
}

bool LoadState::ending() const {
  const MutexLock lock(mutex_);
  return coordinator_.ending();
}

}  // namespace celslm
