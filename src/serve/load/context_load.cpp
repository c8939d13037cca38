#include "serve/load/context_load.h"

#include <new>
#include <utility>

namespace celslm {
namespace {

NewPack packs_in(std::shared_ptr<PackStore> store) {
  if (!store) return {};
  return [store = std::move(store)](const PackIdentity& identity) { return store->create(identity); };
}

}  // namespace

ContextLoad::ContextLoad(LoadParts parts, LoadWorkers& workers, LoadTimer& timer, ResidentContext& context,
                         PackIdentity identity, const PlanOptions& options)
    : parts_(std::move(parts)),
      workers_(workers),
      timer_(timer),
      number_(workers.next_number()),
      context_(context),
      identity_(std::move(identity)),
      state_(parts_, context_, identity_, options, *this, *this),
      keeper_(packs_in(parts_.store), identity_, parts_.disk, parts_.log),
      sink_(parts_, context_, identity_, state_, keeper_) {}

void ContextLoad::add_source(std::unique_ptr<BlockSource> source) {
  SourceTraits traits = source->traits();
  const LinkEstimate known = parts_.memory->link(source->name());
  if (known.rate_bytes_per_s.known()) traits.estimate = known;
  const Source kind = source->kind();
  const std::string name = source->name();
  readers_.emplace_back(std::move(source), static_cast<SourceId>(readers_.size()), state_, sink_);
  state_.add_source(kind, name, traits);
}

void ContextLoad::start(std::shared_ptr<ResidentContext> context, std::function<void()> more, std::function<void()> ended) {
  held_ = std::move(context);
  more_ = std::move(more);
  ended_ = std::move(ended);
  state_.keeping(keeping());
  if (readers_.empty()) return state_.start();
  if (const Status timer = timer_.start(); !timer) {
    // Nobody would notice a source that hangs.
    note(timer.error().message);
    return state_.stop();
  }
  state_.start();
}

void ContextLoad::stop() {
  stopping_.request_stop();
  state_.stop();
}

// --- orders -----------------------------------------------------------------------------------------------------------

Result<bool> ContextLoad::take(LoadWork work) {
  return workers_.take(work, number_, [load = weak_from_this()] {
    if (const auto alive = load.lock()) alive->state_.places_free();
  });
}

void ContextLoad::review_at(TimePoint when) {
  timer_.call_at(when, [load = weak_from_this()] {
    if (const auto alive = load.lock()) alive->state_.tick();
  });
}

// Work that there is no memory to pass on has failed.
void ContextLoad::run(LoadWork work, std::function<void()> job, const std::function<void(const Error&)>& failed) {
  try {
    workers_.run(work, std::move(job));
  } catch (const std::bad_alloc&) {
    workers_.put_back(work);
    failed({ErrorKind::kOverloaded, "there is no memory to load this context from its sources"});
  }
}

void ContextLoad::open(SourceId source, std::optional<ActiveTransfer> early) {
  run(
      LoadWork::kOpen, [self = shared_from_this(), from = &reader(source), early] { from->open(early); },
      [&](const Error& why) {
        if (early) state_.ended(source, *early, {});
        state_.opened(source, std::unexpected(why));
      });
}

void ContextLoad::read(SourceId source, ActiveTransfer transfer) {
  run(
      LoadWork::kRead, [self = shared_from_this(), from = &reader(source), transfer] { from->read(transfer); },
      [&](const Error& why) { state_.ended(source, transfer, std::unexpected(why)); });
}

void ContextLoad::fall_back() {
  try {
    if (more_) more_();
  } catch (const std::bad_alloc&) {
    note("there is no memory to ask further sources");
  }
}

void ContextLoad::keep_rows() {
  const auto keep = [self = shared_from_this()] {
    self->keeper_.keep_computed();
    self->state_.keeping(self->keeping());
    self->state_.rows_kept();
  };
  run(LoadWork::kKeep, keep, [&](const Error&) { state_.rows_kept(); });
}

void ContextLoad::close(bool on_worker) {
  if (!on_worker) return close_all();
  const auto finish = [self = shared_from_this()] {
    self->commit();
    self->close_all();
  };
  run(LoadWork::kKeep, finish, [&](const Error&) { close_all(); });
}

void ContextLoad::commit() {
  if (!keeper_.complete()) return;
  for (SourceReader& from : readers_) {
    if (!state_.is_opened(from.id()) || stopping_.stop_requested()) continue;
    auto header = from.header(stopping_.get_token());
    const Status kept = header ? keeper_.commit(*std::move(header)) : std::unexpected(header.error());
    if (kept) return;
    parts_.log->warn("this pack will not be kept on disk: {}", kept.error().message);
  }
}

void ContextLoad::close_all() {
  keeper_.close();
  sink_.drop_leftover();
  for (SourceReader& from : readers_) from.close();
  state_.closed();
  const auto self = shared_from_this();
  const auto held = std::exchange(held_, {});
  more_ = {};
  if (const auto ended = std::exchange(ended_, {})) ended();
}

// --- the engine -------------------------------------------------------------------------------------------------------

void ContextLoad::layer_computed(int layer, KvSegment& from, std::vector<float> k, std::vector<float> v) {
  const std::vector<int> blocks = state_.claim_layer(layer);
  // Before the context can be complete: then nothing is forgotten by whoever looks whether everything is kept.
  if (!k.empty()) {
    keeper_.add_computed(layer, std::move(k), std::move(v));
    state_.rows_to_keep();
  }
  sink_.write_computed(layer, blocks, from);
}

}  // namespace celslm
