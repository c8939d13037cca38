#include "plan/load_plan.h"

#include <algorithm>

#include "plan/transfer_choice.h"

namespace celslm {

// --- sources ----------------------------------------------------------------------------------------------------------

SourceId LoadPlan::add_source(const SourceTraits& traits, TimePoint now) {
  status_.sources.emplace_back(traits, shape().n_blocks(), now);
  return static_cast<SourceId>(status_.sources.size()) - 1;
}

bool LoadPlan::any_source_alive() const {
  return std::ranges::any_of(status_.sources, [](const SourceState& s) { return s.alive(); });
}

void LoadPlan::set_deadline(TimePoint deadline) {
  status_.options.deadline = std::min(deadline, status_.options.deadline.value_or(deadline));
}

// --- transfers --------------------------------------------------------------------------------------------------------

std::optional<Transfer> LoadPlan::next(SourceId source, TimePoint now) {
  const auto range = choose_blocks(status_, source, now);
  if (!range) return std::nullopt;
  const Transfer transfer{
      .id = ++last_id_, .source = source, .blocks = *range, .next = range->first, .began = now, .progressed = now};
  status_.blocks.transfer_began(*range);
  status_.source(source).transfer_began(shape().bytes_of(*range));
  status_.transfers[transfer.id] = transfer;
  return transfer;
}

std::optional<Transfer> LoadPlan::next_with_header(SourceId source, TimePoint now) {
  status_.source(source).presume(true);
  auto transfer = next(source, now);
  status_.source(source).presume(false);
  if (transfer) transfer->with_header = status_.transfers.at(transfer->id).with_header = true;
  return transfer;
}

bool LoadPlan::is_needed(TransferId id) const {
  const Transfer& transfer = status_.transfers.at(id);
  return status_.blocks.any_missing(transfer.next, transfer.blocks.end());
}

bool LoadPlan::all_arrived(TransferId id) const {
  const Transfer& transfer = status_.transfers.at(id);
  return transfer.next == transfer.blocks.end();
}

void LoadPlan::bytes_arrived(TransferId id, std::uint64_t bytes, TimePoint now) {
  Transfer& transfer = status_.transfers.at(id);
  status_.source(transfer.source).bytes_arrived(transfer, bytes, now);
}

bool LoadPlan::claim_next(TransferId id, TimePoint now) {
  Transfer& transfer = status_.transfers.at(id);
  const int block = transfer.next;
  status_.source(transfer.source).block_arrived(transfer, shape().bytes_of(block), now);
  return claim(block);
}

void LoadPlan::ended(TransferId id, TransferEnd how, TimePoint now) {
  const auto it = status_.transfers.find(id);
  const Transfer transfer = it->second;
  status_.transfers.erase(it);
  status_.blocks.transfer_ended(transfer.blocks);
  status_.source(transfer.source).transfer_ended(transfer, how, now);
}

std::vector<TransferId> LoadPlan::stalled(TimePoint now, Duration limit) const {
  std::vector<TransferId> out;
  for (const auto& [id, transfer] : status_.transfers) {
    if (now - transfer.progressed > limit) out.push_back(id);
  }
  return out;
}

// --- compute ----------------------------------------------------------------------------------------------------------

bool LoadPlan::wants_compute(TimePoint now) {
  status_.compute.asked(now);
  const bool wants = would_compute(now);
  if (!wants) status_.compute.pause();
  return wants;
}

bool LoadPlan::would_compute(TimePoint now) const {
  return !complete() && forecast(now).compute_until > status_.compute.layer();
}

std::vector<int> LoadPlan::blocks_written(int layer) const {
  std::vector<int> out;
  for (int block = shape().first_block(layer); block < shape().first_block(layer + 1); ++block) {
    if (status_.blocks.is_written(block)) out.push_back(block);
  }
  return out;
}

std::vector<int> LoadPlan::claim_layer(int layer) {
  std::vector<int> out;
  for (int block = shape().first_block(layer); block < shape().first_block(layer + 1); ++block) {
    if (claim(block)) out.push_back(block);
  }
  status_.compute.layer_computed(layer);
  return out;
}

}  // namespace celslm
