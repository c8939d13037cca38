#include "serve/load/source_reader.h"

#include <new>

namespace celslm {
namespace {

// One load fails where memory cannot be had, not the process.
template <typename Work>
auto within_memory(const BlockSource& source, Work work) -> decltype(work()) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kOverloaded, "there is no memory to read from {}", source.name());
  }
}

}  // namespace

void SourceReader::open(std::optional<ActiveTransfer> early_transfer) {
  std::optional<BlockSource::EarlyRead> early;
  bool early_ended = !early_transfer;
  const auto end_early = [&](const Status& read) {
    if (!std::exchange(early_ended, true)) end(*early_transfer, read);
  };
  if (early_transfer) {
    early = {.blocks = early_transfer->blocks,
             .reader = reader(*early_transfer),
             .ended = end_early,
             .stop = early_transfer->cancel.get_token()};
  }
  const auto announce = [&](int first, std::span<const BlockEntry> entries) {
    sink_.announced(first, entries);
    state_.offer(id_, first, entries);
  };
  const Status opened =
      within_memory(*source_, [&] { return source_->open(announce, early ? &*early : nullptr, opening_.get_token()); });
  end_early(opened);
  state_.opened(id_, opened);
}

void SourceReader::read(ActiveTransfer transfer) {
  const std::vector<BlockEntry> entries = state_.entries(id_, transfer.blocks);
  end(transfer,
      within_memory(*source_, [&] { return source_->read(entries, reader(transfer), transfer.cancel.get_token()); }));
}

Result<Bytes> SourceReader::header(std::stop_token stop) {
  return within_memory(*source_, [&] { return source_->header(std::move(stop)); });
}

BlockSource::Reader SourceReader::reader(ActiveTransfer& transfer) {
  return {.arrived = [this, &transfer](std::size_t bytes) { state_.bytes_arrived(transfer.id, bytes); },
          .block = [this, &transfer](Bytes bytes) { return take_block(transfer, std::move(bytes)); }};
}

// False where nothing more of the transfer is wanted.
bool SourceReader::take_block(ActiveTransfer& transfer, Bytes bytes) {
  const int index = transfer.next++;
  if (is_network(source_->kind())) sink_.count_network_bytes(source_->kind(), bytes.size());
  const auto block = VerifiedBlock::check(index, state_.entries(id_, {index, 1}).front(), std::move(bytes));
  if (!block) {
    transfer.checked = std::unexpected(block.error());
    return false;
  }
  if (state_.verified(transfer.id, index, block->bytes().size())) {
    transfer.checked = sink_.write(*block, source_->kind());
    if (!transfer.checked) return false;
  }
  if (source_->kind() != Source::kDisk) sink_.keep(*block);
  return transfer.next == transfer.blocks.end() || state_.is_needed(transfer.id);
}

void SourceReader::end(const ActiveTransfer& transfer, const Status& read) {
  // Else there was no memory for it.
  const bool damaged = !transfer.checked && transfer.checked.error().kind != ErrorKind::kOverloaded;
  if (damaged) source_->discard(transfer.checked.error());
  state_.ended(id_, transfer, read);
}

}  // namespace celslm
