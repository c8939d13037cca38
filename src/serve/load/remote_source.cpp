#include "serve/load/remote_source.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "core/printable.h"

namespace celslm {

SourceTraits RemoteSource::traits() const {
  return {.max_transfers = options_.n_connections, .is_neighbour = options_.is_neighbour, .max_bytes = options_.max_bytes};
}

// Cuts a stream of bytes into blocks of the lengths that the entries give.
class BlockSplitter {
 public:
  BlockSplitter(std::span<const BlockEntry> entries, const BlockSource::Reader& reader)
      : entries_(entries), reader_(reader) {}

  bool add(ByteView piece) {
    reader_.arrived(piece.size());
    while (!piece.empty() && !entries_.empty()) {
      const std::size_t wanted = entries_.front().bytes;
      const ByteView part = piece.first(std::min(piece.size(), wanted - held_.size()));
      held_.reserve(wanted);
      held_.insert(held_.end(), part.begin(), part.end());
      piece = piece.subspan(part.size());
      if (held_.size() < wanted) return true;
      entries_ = entries_.subspan(1);
      if (!reader_.block(std::exchange(held_, {}))) return false;
    }
    return true;
  }
  bool finished() const { return entries_.empty(); }

 private:
  std::span<const BlockEntry> entries_;
  const BlockSource::Reader& reader_;
  Bytes held_;
};

Status RemoteSource::open(const Announce& announce, const EarlyRead* early, std::stop_token stop) {
  Status status = open_pack(announce, early, stop);
  if (!status && status.error().kind == ErrorKind::kNotFound) return std::unexpected(explain(std::move(status).error()));
  return status;
}

Status RemoteSource::open_pack(const Announce& announce, const EarlyRead* early, std::stop_token stop) {
  CELSLM_TRY(const auto computing, early ? open_with_blocks(announce, *early, stop) : open_header(announce, stop));
  if (!computing) return {};
  CELSLM_CHECK_OK(check(*computing));
  int next = 0;
  const auto on_entry = [&](const SignedEntry& entry) {
    announce(next++, std::span(&entry.entry, 1));
    return !stop.stop_requested();
  };
  const Status status = client_->entries(pack_, *computing, 0, on_entry, stop);
  // With every entry here the pack is usable, however the stream ended.
  return next == identity_.n_blocks() ? Status() : status;
}

// The identity, if the pack is being computed.
Result<std::optional<PackIdentity>> RemoteSource::open_header(const Announce& announce, std::stop_token stop) {
  CELSLM_TRY(auto opened, client_->open(pack_, stop));
  if (opened.header.empty()) return std::move(opened.identity);
  CELSLM_CHECK_OK(take_header(std::move(opened), announce));
  return std::nullopt;
}

Result<std::optional<PackIdentity>> RemoteSource::open_with_blocks(const Announce& announce, const EarlyRead& early,
                                                                   std::stop_token stop) {
  std::stop_source either;
  const auto forward = [&either] { either.request_stop(); };
  const std::stop_callback all(stop, forward);
  const std::stop_callback reading(early.stop, forward);

  Status taken;
  std::optional<BlockSplitter> splitter;
  std::vector<BlockEntry> entries;
  std::uint64_t most = 0;
  for (int i = early.blocks.first; i < early.blocks.end(); ++i) most += block_bytes(identity_, i).most;
  const auto on_open = [&](CloudClient::OpenedPack opened) {
    if (opened.blocks.size() == static_cast<std::size_t>(identity_.n_blocks()))
      entries.assign(opened.blocks.begin() + early.blocks.first, opened.blocks.begin() + early.blocks.end());
    taken = take_header(std::move(opened), announce);
    if (taken) splitter.emplace(entries, early.reader);
    return taken.has_value();
  };
  const auto answer = client_->open_reading(pack_,
                                            {.first = early.blocks.first,
                                             .count = early.blocks.count,
                                             .max_bytes = most,
                                             .on_open = on_open,
                                             .on_bytes = [&](ByteView piece) { return splitter->add(piece); }},
                                            either.get_token());
  const bool opened = splitter.has_value();
  early.ended(answer || opened ? answer.transform([](const auto&) {}) : Status());
  CELSLM_CHECK_OK(taken);
  if (opened) return std::nullopt;
  // Its blocks had arrived from elsewhere before it answered.
  if (!answer && early.stop.stop_requested() && !stop.stop_requested()) return open_header(announce, stop);
  return answer;
}

Status RemoteSource::check(const PackIdentity& offered) const {
  const Status usable = check_offer(identity_, offered, options_.key_bias);
  if (usable) return {};
  client_->report_wrong_pack();
  return fail(usable.error().kind, "{} offers {}", client_->url(), printable(usable.error().message));
}

Status RemoteSource::take_header(CloudClient::OpenedPack opened, const Announce& announce) {
  CELSLM_CHECK_OK(check(opened.identity));
  announce(0, opened.blocks);
  const MutexLock lock(mutex_);
  header_ = std::move(opened.header);
  return {};
}

Status RemoteSource::read(std::span<const BlockEntry> entries, const Reader& reader, std::stop_token stop) {
  const ByteRange range{entries.front().offset, entries.back().offset + entries.back().bytes};
  BlockSplitter splitter(entries, reader);
  CELSLM_CHECK_OK(client_->blocks(pack_, range, [&](ByteView piece) { return splitter.add(piece); }, stop));
  if (!splitter.finished())
    return fail(ErrorKind::kUnavailable, "{}: the answer ended before the last block", client_->url());
  return {};
}

Result<Bytes> RemoteSource::header(std::stop_token stop) {
  {
    const MutexLock lock(mutex_);
    if (!header_.empty()) return header_;
  }
  CELSLM_TRY(auto opened, client_->open(pack_, stop));
  if (opened.header.empty()) {
    // All entries are here and the header is not: the entries' stream, which open() may have left early, ends with it.
    CELSLM_CHECK_OK(client_->entries(pack_, identity_, identity_.n_blocks(), {}, stop));
    CELSLM_TRY(opened, client_->open(pack_, stop));
  }
  if (opened.header.empty()) return fail(ErrorKind::kUnavailable, "{} has not finished its header", client_->url());
  return std::move(opened.header);
}

// For a cloud that does not know our model: in which field its models differ from it.
Error RemoteSource::explain(Error error) const {
  if (options_.is_neighbour) return error;
  const auto models = client_->models();
  if (!models) return error;
  for (const HostedModel& hosted : *models) {
    if (hosted.fingerprint == identity_.model) return error;
  }
  for (const HostedModel& hosted : *models) {
    error.message += fmt::format("; its model '{}' differs from ours in {}", hosted.name,
                                 printable(identity_.model.difference(hosted.fingerprint)));
  }
  return error;
}

}  // namespace celslm
