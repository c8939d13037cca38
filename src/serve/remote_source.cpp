#include "serve/remote_source.h"

#include <optional>

namespace celslm {

SourceTraits RemoteSource::traits() const {
  return {.max_flights = options_.n_connections, .is_neighbour = options_.is_neighbour, .max_bytes = options_.max_bytes};
}

Status RemoteSource::open(const Announce& announce, std::stop_token stop) {
  Status status = open_pack(announce, stop);
  if (!status && status.error().kind == ErrorKind::kNotFound) return std::unexpected(explain(std::move(status).error()));
  return status;
}

Status RemoteSource::open_pack(const Announce& announce, std::stop_token stop) {
  CELSLM_TRY(auto opened, client_->open(pack_, stop));
  if (const std::string difference = identity_.difference(opened.identity); !difference.empty()) {
    return fail(ErrorKind::kMismatch, "{} offers a pack that is not ours: {}", client_->url(), difference);
  }
  if (!opened.header.empty()) {
    announce(0, opened.blocks);
    const std::scoped_lock lock(mutex_);
    header_ = std::move(opened.header);
    return {};
  }
  int next = 0;
  const auto on_entry = [&](const SignedEntry& entry) {
    announce(next++, std::span(&entry.entry, 1));
    return !stop.stop_requested();
  };
  const Status status = client_->entries(pack_, identity_, 0, on_entry, stop);
  // With every entry here the pack is usable, however the stream ended.
  return next == identity_.n_blocks() ? Status() : status;
}

// Cuts a stream of bytes into the blocks that the entries say.
class BlockSplitter {
 public:
  BlockSplitter(std::span<const BlockEntry> entries, const BlockSource::Reader& reader)
      : entries_(entries), reader_(reader) {}

  bool add(ByteView piece) {
    if (!answered_) reader_.first_byte();
    answered_ = true;
    while (!piece.empty() && !entries_.empty()) {
      const std::size_t wanted = entries_.front().bytes;
      if (held_.empty() && piece.size() >= wanted) {
        if (!use(piece.first(wanted))) return false;
        piece = piece.subspan(wanted);
        continue;
      }
      const ByteView part = piece.first(std::min(piece.size(), wanted - held_.size()));
      held_.insert(held_.end(), part.begin(), part.end());
      piece = piece.subspan(part.size());
      if (held_.size() < wanted) return true;
      if (!use(held_)) return false;
      held_.clear();
    }
    return true;
  }
  bool finished() const { return entries_.empty(); }

 private:
  bool use(ByteView bytes) {
    entries_ = entries_.subspan(1);
    return reader_.block(bytes);
  }

  std::span<const BlockEntry> entries_;
  const BlockSource::Reader& reader_;
  Bytes held_;
  bool answered_ = false;
};

Status RemoteSource::read(std::span<const BlockEntry> entries, const Reader& reader, std::stop_token stop) {
  const ByteRange range{entries.front().offset, entries.back().offset + entries.back().bytes};
  BlockSplitter splitter(entries, reader);
  CELSLM_CHECK_OK(client_->blocks(pack_, range, [&](ByteView piece) { return splitter.add(piece); }, stop));
  if (!splitter.finished()) return fail(ErrorKind::kUnavailable, "{}: the answer ended early", client_->url());
  return {};
}

Result<Bytes> RemoteSource::header(std::stop_token stop) {
  {
    const std::scoped_lock lock(mutex_);
    if (!header_.empty()) return header_;
  }
  CELSLM_TRY(auto opened, client_->open(pack_, stop));
  if (opened.header.empty()) return fail(ErrorKind::kUnavailable, "{} has not finished its header", client_->url());
  return std::move(opened.header);
}

// A cloud that does not know our model: say in which field its closest one differs.
Error RemoteSource::explain(Error error) const {
  if (options_.is_neighbour) return error;
  const auto models = client_->models();
  if (!models) return error;
  for (const HostedModel& hosted : *models) {
    if (hosted.fingerprint == identity_.model) return error;
  }
  for (const HostedModel& hosted : *models) {
    error.message +=
        std::format("; its model '{}' differs from ours in {}", hosted.name, identity_.model.difference(hosted.fingerprint));
  }
  return error;
}

}  // namespace celslm
