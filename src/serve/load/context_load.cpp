#include "serve/load/context_load.h"

namespace celslm {
namespace {

NewPack packs_in(std::shared_ptr<PackStore> store) {
  if (!store) return {};
  return [store = std::move(store)](const PackIdentity& identity) { return store->create(identity); };
}

}  // namespace

ContextLoad::ContextLoad(LoadParts parts, ResidentContext& context, PackIdentity identity, const PlanOptions& options)
    : parts_(std::move(parts)),
      context_(context),
      identity_(std::move(identity)),
      state_(parts_, context_, identity_, options),
      keeper_(packs_in(parts_.store), identity_, parts_.log),
      sink_(parts_, context_, identity_, state_, keeper_) {}

void ContextLoad::add_source(std::unique_ptr<BlockSource> source) {
  SourceTraits traits = source->traits();
  const LinkEstimate known = parts_.memory->link(source->name());
  if (known.rate_bytes_per_s.known()) traits.estimate = known;
  const SourceId id = state_.add_source(source->kind(), source->name(), traits);
  readers_.emplace_back(std::move(source), id, state_, sink_);
}

void ContextLoad::run(const std::function<void()>& more, std::stop_token stop) {
  read_sources(stop);
  if (!context_.complete() && !stop.stop_requested()) {
    more();
    read_sources(stop);
  }
  for (SourceReader& reader : readers_) reader.request_stop();
  for (SourceReader& reader : readers_) reader.join();
  state_.retire_sources();
  commit(stop);
  context_.changed();
}

// Starts the sources' threads and supervises them until there is nothing more to read or to keep.
void ContextLoad::read_sources(std::stop_token stop) {
  for (SourceReader& reader : readers_) {
    if (!reader.started()) reader.start();
  }
  while (!stop.stop_requested()) {
    const std::uint64_t seen = state_.changes();
    keeper_.keep_computed();
    if (nothing_more()) return;
    state_.check_transfers();
    // The engine's thread asks the plan only when it is woken, and what the plan answers changes with time alone.
    context_.changed();
    state_.wait_for_change(seen, stop);
  }
}

bool ContextLoad::nothing_more() const {
  const LoadState::Progress progress = state_.progress();
  if (progress != LoadState::Progress::kComplete) return progress == LoadState::Progress::kNoSourceLeft;
  if (keeper_.has_computed()) return false;
  if (state_.all_announced()) return true;
  // Blocks to be kept may still be waiting for their announcement. When all are kept, the pack's header is still needed: a
  // source has it once its open() has ended.
  return !keeper_.wants_anything() && (!keeper_.complete() || state_.any_opened());
}

void ContextLoad::commit(std::stop_token stop) {
  if (!keeper_.complete()) return;
  for (SourceReader& reader : readers_) {
    if (!state_.is_opened(reader.id()) || stop.stop_requested()) continue;
    const auto header = reader.source().header(stop);
    const Status kept = header ? keeper_.commit(*header) : std::unexpected(header.error());
    if (kept) return;
    parts_.log->warn("this pack will not be kept on disk: {}", kept.error().message);
  }
}

void ContextLoad::layer_computed(int layer, KvSegment& from, std::vector<float> k, std::vector<float> v) {
  const std::vector<int> blocks = state_.claim_layer(layer);
  // Before the context can be complete: then nothing is forgotten by whoever looks whether everything is kept.
  if (!k.empty()) keeper_.add_computed(layer, std::move(k), std::move(v));
  sink_.write_computed(layer, blocks, from);
}

}  // namespace celslm
