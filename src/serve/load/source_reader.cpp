#include "serve/load/source_reader.h"

#include <optional>

namespace celslm {

void SourceReader::start() {
  threads_.emplace_back([this](std::stop_token stop) { open(stop); });
  for (int i = 0; i < source_->traits().max_transfers; ++i)
    threads_.emplace_back([this](std::stop_token stop) { read_transfers(stop); });
}

void SourceReader::request_stop() {
  for (std::jthread& thread : threads_) thread.request_stop();
}

void SourceReader::open(std::stop_token stop) {
  std::optional<ActiveTransfer> transfer = state_.next_with_header(id_);
  std::optional<BlockSource::EarlyRead> early;
  if (transfer) {
    early = {.blocks = transfer->blocks,
             .reader = reader(*transfer),
             .ended = [&](const Status& read) { end(*transfer, read, stop); },
             .stop = transfer->cancel.get_token()};
  }
  const auto announce = [&](int first, std::span<const BlockEntry> entries) {
    sink_.announced(first, entries);
    state_.offer(id_, first, entries);
  };
  state_.opened(id_, source_->open(announce, early ? &*early : nullptr, stop));
}

void SourceReader::read_transfers(std::stop_token stop) {
  while (auto transfer = state_.wait_for_transfer(id_, stop)) {
    const std::vector<BlockEntry> entries = state_.entries(id_, transfer->blocks);
    const std::stop_callback forward(stop, [&] { transfer->cancel.request_stop(); });
    end(*transfer, source_->read(entries, reader(*transfer), transfer->cancel.get_token()), stop);
  }
}

BlockSource::Reader SourceReader::reader(ActiveTransfer& transfer) {
  return {.arrived = [this, &transfer](std::size_t bytes) { state_.bytes_arrived(transfer.id, bytes); },
          .block = [this, &transfer](ByteView bytes) { return take_block(transfer, bytes); }};
}

// False where nothing more of the transfer is wanted.
bool SourceReader::take_block(ActiveTransfer& transfer, ByteView bytes) {
  const int block = transfer.next++;
  const BlockEntry entry = state_.entries(id_, {block, 1}).front();
  transfer.checked = check_block(entry, bytes);
  if (is_network(source_->kind())) sink_.count_network_bytes(bytes.size());
  if (!transfer.checked) return false;
  if (state_.claim_next(transfer.id, bytes.size())) {
    transfer.checked = sink_.write(block, entry, bytes, source_->kind());
    if (!transfer.checked) return false;
  }
  if (source_->kind() != Source::kDisk) sink_.keep(block, bytes);
  return transfer.next == transfer.blocks.end() || state_.is_needed(transfer.id);
}

void SourceReader::end(const ActiveTransfer& transfer, const Status& read, const std::stop_token& stop) {
  const bool stopping = stop.stop_requested();
  if (!transfer.checked && source_->kind() == Source::kDisk && !stopping) sink_.discard_pack(transfer.checked.error());
  state_.ended(id_, transfer, read, stopping);
}

}  // namespace celslm
