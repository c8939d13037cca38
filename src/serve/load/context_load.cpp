#include "serve/load/context_load.h"

#include <fmt/format.h>

#include <algorithm>

#include "plan/layer_work.h"
#include "serve/load/block_import.h"

namespace celslm {
namespace {

constexpr auto kTick = LoadPlan::patience();
// The user's own tokens through a layer cost as much as this many of the context's: a question of a few dozen tokens, whose
// products are too small to be efficient.
constexpr double kOwnTokens = 32;

LoadShape shape_of(const PackIdentity& identity) {
  LoadShape out{.n_layers = static_cast<int>(identity.model.n_layers), .blocks_per_layer = 2 * identity.n_chunks()};
  // Where the length varies, the most it can be: the plan needs blocks' sizes beside each other, not to the byte.
  for (int i = 0; i < identity.n_blocks(); ++i)
    out.block_bytes.push_back(static_cast<std::uint32_t>(block_bytes(identity, i).most));
  return out;
}

PlanOptions complete_options(PlanOptions options, const SourceMemory& memory, int n_tokens) {
  options.own_share = kOwnTokens / std::max(n_tokens, 1);
  options.layer_s = memory.compute_s_per_work() * layer_work(n_tokens);
  return options;
}

bool is_network(Source source) {
  return source == Source::kPeer || source == Source::kCloud;
}

}  // namespace

ContextLoad::ContextLoad(LoadParts parts, ResidentContext& context, PackIdentity identity, const PlanOptions& options)
    : parts_(std::move(parts)),
      context_(context),
      identity_(std::move(identity)),
      began_(parts_.clock->now()),
      plan_(shape_of(identity_), complete_options(options, *parts_.memory, identity_.n_tokens()), began_),
      blocks_from_(identity_.model.n_layers),
      keeper_(parts_.store.get(), identity_, parts_.log) {}

void ContextLoad::add_source(std::unique_ptr<BlockSource> source) {
  SourceTraits traits = source->traits();
  const LinkEstimate known = parts_.memory->link(source->name());
  if (known.rate_bytes_per_s.known()) traits.estimate = known;
  const std::scoped_lock lock(mutex_);
  const SourceId id = plan_.add_source(traits, now());
  suppliers_.push_back(
      {.source = std::move(source), .id = id, .entries = std::vector<BlockEntry>(plan_.shape().block_bytes.size())});
}

void ContextLoad::note(const std::string& why) {
  const std::scoped_lock lock(mutex_);
  add_note(why);
}

void ContextLoad::add_note(const std::string& why) {
  note_ += (note_.empty() ? "" : "; ") + why;
  context_.set_note(note_);
}

std::uint64_t ContextLoad::received(Source kind) const {
  const std::scoped_lock lock(mutex_);
  std::uint64_t out = 0;
  for (const Supplier& supplier : suppliers_) out += supplier.source->kind() == kind ? supplier.received : 0;
  return out;
}

// --- threads ----------------------------------------------------------------------------------------------------------

void ContextLoad::run(const std::function<void()>& more, std::stop_token stop) {
  std::vector<std::jthread> threads;
  start_threads(threads);
  supervise(stop, true);
  if (!context_.complete() && !stop.stop_requested()) {
    more();
    start_threads(threads);
    supervise(stop, true);
  }
  for (std::jthread& thread : threads) thread.request_stop();
  threads.clear();
  {
    const std::scoped_lock lock(mutex_);
    for (Supplier& supplier : suppliers_) {
      parts_.memory->keep_link(supplier.source->name(), plan_.estimate(supplier.id));
      plan_.drop(supplier.id);
    }
  }
  commit(stop);
  context_.changed();
}

void ContextLoad::start_threads(std::vector<std::jthread>& threads) {
  const std::scoped_lock lock(mutex_);
  for (; n_started_ < suppliers_.size(); ++n_started_) {
    Supplier& supplier = suppliers_[n_started_];
    threads.emplace_back([this, &supplier](std::stop_token stop) { open(supplier, stop); });
    for (int i = 0; i < supplier.source->traits().max_transfers; ++i) {
      threads.emplace_back([this, &supplier](std::stop_token stop) { work(supplier, stop); });
    }
  }
}

void ContextLoad::open(Supplier& supplier, std::stop_token stop) {
  std::optional<Reading> reading;
  {
    const std::scoped_lock lock(mutex_);
    if (const auto transfer = plan_.next_with_header(supplier.id, now())) reading = begin_reading(*transfer);
  }
  std::optional<BlockSource::Opening> opening;
  if (reading) {
    opening = {.first = reading->transfer.blocks.first,
               .count = reading->transfer.blocks.count,
               .reader = reader(supplier, *reading),
               .ended = [&](const Status& read) { end_reading(supplier, *reading, read, stop); },
               .stop = reading->cut.get_token()};
  }
  const auto offers = [&](int first, std::span<const BlockEntry> entries) { announce(supplier, first, entries); };
  opened(supplier, supplier.source->open(offers, opening ? &*opening : nullptr, stop));
}

void ContextLoad::announce(Supplier& supplier, int first, std::span<const BlockEntry> entries) {
  {
    const std::scoped_lock lock(keep_mutex_);
    keeper_.announce(first, entries);
  }
  take_leftovers(first, entries);
  {
    const std::scoped_lock lock(mutex_);
    std::ranges::copy(entries, supplier.entries.begin() + first);
    plan_.offer(supplier.id, {first, static_cast<int>(entries.size())});
  }
  changed_.notify_all();
}

void ContextLoad::opened(Supplier& supplier, const Status& status) {
  {
    const std::scoped_lock lock(mutex_);
    supplier.opened = status.has_value();
    if (!status && !plan_.complete()) {
      supplier.error = status.error();
      add_note(status.error().message);
    }
    if (!status) plan_.drop(supplier.id);
  }
  if (!status && status.error().kind == ErrorKind::kUnavailable)
    parts_.memory->rest(supplier.source->name(), now() + kSourceRest);
  changed_.notify_all();
}

void ContextLoad::work(Supplier& supplier, std::stop_token stop) {
  while (!stop.stop_requested()) {
    std::optional<Reading> reading;
    {
      std::unique_lock lock(mutex_);
      if (plan_.complete() || !plan_.alive(supplier.id)) return;
      if (const auto transfer = plan_.next(supplier.id, now())) reading = begin_reading(*transfer);
      if (!reading) changed_.wait_for(lock, stop, kTick, [] { return false; });
    }
    if (reading) fly(supplier, *reading, stop);
  }
}

void ContextLoad::fly(Supplier& supplier, Reading& reading, std::stop_token stop) {
  std::vector<BlockEntry> entries;
  {
    const std::scoped_lock lock(mutex_);
    const auto first = supplier.entries.begin() + reading.transfer.blocks.first;
    entries.assign(first, first + reading.transfer.blocks.count);
  }
  const std::stop_callback forward(stop, [&] { reading.cut.request_stop(); });
  const Status read = supplier.source->read(entries, reader(supplier, reading), reading.cut.get_token());
  end_reading(supplier, reading, read, stop);
}

ContextLoad::Reading ContextLoad::begin_reading(const Transfer& transfer) {
  return {.transfer = transfer, .next = transfer.blocks.first, .checked = {}, .cut = cuts_[transfer.id].stop};
}

BlockSource::Reader ContextLoad::reader(Supplier& supplier, Reading& reading) {
  return {.arrived =
              [this, &reading](std::size_t bytes) {
                const std::scoped_lock lock(mutex_);
                plan_.bytes_arrived(reading.transfer.id, bytes, now());
              },
          .block = [this, &supplier, &reading](ByteView bytes) { return take_block(supplier, reading, bytes); }};
}

void ContextLoad::end_reading(Supplier& supplier, const Reading& reading, const Status& read, std::stop_token stop) {
  {
    const std::scoped_lock lock(mutex_);
    const bool overdue = cuts_.at(reading.transfer.id).overdue;
    cuts_.erase(reading.transfer.id);
    plan_.ended(reading.transfer.id, stop.stop_requested() ? TransferEnd::kDone : end_of(supplier, reading, read, overdue),
                now());
    if (!plan_.alive(supplier.id) && supplier.error && !plan_.complete()) {
      add_note(supplier.error->message);
      if (is_network(supplier.source->kind()) && supplier.error->kind == ErrorKind::kUnavailable)
        parts_.memory->rest(supplier.source->name(), now() + kSourceRest);
    }
  }
  changed_.notify_all();
}

TransferEnd ContextLoad::end_of(Supplier& supplier, const Reading& reading, const Status& read, bool overdue) {
  if (!reading.checked) {
    supplier.error = reading.checked.error();
    if (supplier.source->kind() != Source::kDisk) return TransferEnd::kFailed;
    parts_.store->discard(identity_.id(), reading.checked.error());
    return TransferEnd::kRefused;
  }
  if (overdue) {
    supplier.error = Error{ErrorKind::kUnavailable,
                           fmt::format("{} sent nothing for {} s", supplier.source->name(),
                                       std::chrono::duration_cast<std::chrono::seconds>(kBlockDeadline).count())};
    return TransferEnd::kFailed;
  }
  if (read || read.error().kind == ErrorKind::kCancelled) return TransferEnd::kDone;
  supplier.error = read.error();
  const bool hopeless = read.error().kind == ErrorKind::kNotFound || read.error().kind == ErrorKind::kUnauthorized;
  return hopeless ? TransferEnd::kRefused : TransferEnd::kFailed;
}

void ContextLoad::take_leftovers(int first, std::span<const BlockEntry> entries) {
  if (!leftover_) return;
  for (const BlockEntry& entry : entries) {
    const int index = first++;
    const ByteView bytes = leftover_->block(entry);
    if (bytes.empty() || !check_block(entry, bytes)) continue;
    {
      const std::scoped_lock lock(mutex_);
      if (!plan_.claim(index)) continue;
    }
    if (!use_block(index, entry, bytes, Source::kDisk)) continue;
    const std::scoped_lock lock(keep_mutex_);
    keeper_.put(index, bytes);
  }
}

// A block that is the caller's to write.
Status ContextLoad::use_block(int index, const BlockEntry& entry, ByteView bytes, Source source) {
  const Status imported = import_block(*parts_.model, identity_, index, entry, bytes, *context_.segment);
  std::unique_lock lock(mutex_);
  if (!imported) {
    plan_.released(index);
    return imported;
  }
  block_held(index, source);
  publish(std::move(lock));
  return {};
}

bool ContextLoad::take_block(Supplier& supplier, Reading& reading, ByteView bytes) {
  const int index = reading.next++;
  const Transfer& transfer = reading.transfer;
  const Source kind = supplier.source->kind();
  const BlockEntry entry = [&] {
    const std::scoped_lock lock(mutex_);
    return supplier.entries[static_cast<std::size_t>(index)];
  }();
  reading.checked = check_block(entry, bytes);
  if (is_network(kind)) context_.add_bytes(bytes.size());
  if (!reading.checked) return false;
  bool mine = false;
  {
    const std::scoped_lock lock(mutex_);
    supplier.received += bytes.size();
    mine = plan_.claim_next(transfer.id, now());
    report_.hedged_bytes += mine ? 0 : bytes.size();
  }
  if (mine) {
    reading.checked = use_block(index, entry, bytes, kind);
    if (!reading.checked) return false;
  }
  if (kind != Source::kDisk) {
    const std::scoped_lock lock(keep_mutex_);
    keeper_.put(index, bytes);
  }
  const std::scoped_lock lock(mutex_);
  return index + 1 == transfer.blocks.end() || plan_.is_needed(transfer.id);
}

void ContextLoad::block_held(int index, Source source) {
  plan_.written(index);
  const int layer = plan_.shape().layer_of(index);
  ++blocks_from_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(source)];
  if (plan_.layer_complete(layer)) filled_.push_back(layer);
}

LayerOrigin ContextLoad::origin_of(int layer) const {
  const auto& counts = blocks_from_[static_cast<std::size_t>(layer)];
  const auto most = static_cast<Source>(std::ranges::max_element(counts) - counts.begin());
  const bool exact = identity_.map == Hash256{} || layer < identity_.split;
  return {.provenance = most == Source::kCompute ? Provenance::kNative
                        : exact                  ? Provenance::kProxy
                                                 : identity_.provenance,
          .source = most,
          .after = now() - began_,
          .blocks = counts};
}

void ContextLoad::publish(std::unique_lock<std::mutex> lock) {
  std::vector<std::pair<int, LayerOrigin>> layers;
  for (const int layer : std::exchange(filled_, {})) layers.emplace_back(layer, origin_of(layer));
  if (plan_.complete() && report_.took_ms == 0) conclude();
  lock.unlock();
  for (const auto& [layer, origin] : layers) context_.layer_filled(layer, origin);
}

}  // namespace celslm
