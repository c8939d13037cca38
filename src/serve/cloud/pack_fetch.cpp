#include "serve/cloud/pack_fetch.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "core/printable.h"

namespace celslm {
namespace {

// Cuts what arrives into blocks, checks and writes each.
class BlockReceiver {
 public:
  BlockReceiver(const std::vector<BlockEntry>& entries, PackWriter& writer) : entries_(entries), writer_(writer) {}

  bool add(ByteView piece) {
    while (!piece.empty() && next_ < entries_.size()) {
      const std::size_t wanted = entries_[next_].bytes;
      const ByteView part = piece.first(std::min(piece.size(), wanted - held_.size()));
      held_.insert(held_.end(), part.begin(), part.end());
      piece = piece.subspan(part.size());
      if (held_.size() == wanted && !finish_block()) return false;
    }
    return piece.empty();
  }
  bool finished() const { return next_ == entries_.size(); }
  const std::optional<Error>& error() const { return error_; }

 private:
  bool finish_block() {
    const auto index = static_cast<int>(next_);
    const auto block = VerifiedBlock::check(index, entries_[next_], std::exchange(held_, {}));
    const Status put = block ? writer_.put(*block) : Status(std::unexpected(block.error()));
    if (!put) error_ = put.error();
    ++next_;
    return put.has_value();
  }

  const std::vector<BlockEntry>& entries_;
  PackWriter& writer_;
  std::size_t next_ = 0;
  Bytes held_;  // of the next block
  std::optional<Error> error_;
};

Status read_blocks(CloudClient& from, const PackName& name, const std::vector<BlockEntry>& entries, PackWriter& writer,
                   std::stop_token stop) {
  BlockReceiver receiver(entries, writer);
  const ByteRange all{0, entries.back().offset + entries.back().bytes};
  const Status read = from.blocks(name, all, [&](ByteView piece) { return receiver.add(piece); }, stop);
  if (receiver.error()) return std::unexpected(*receiver.error());
  CELSLM_CHECK_OK(read);
  if (!receiver.finished()) return fail(ErrorKind::kUnavailable, "{}: the answer ended before the last block", from.url());
  return {};
}

}  // namespace

Result<StoredPack> fetch_pack(PackJob& job, CloudClient& from, const PackName& name, PackStorage& storage,
                              const SigningKey& key, std::stop_token stop) {
  CELSLM_TRY(const CloudClient::OpenedPack opened, from.open(name, stop));
  if (opened.header.empty()) return fail(ErrorKind::kNotFound, "{} has not finished this pack", from.url());
  if (const std::string difference = job.identity.difference(opened.identity); !difference.empty())
    return fail(ErrorKind::kMismatch, "{} offers {}", from.url(), printable(difference));
  CELSLM_TRY(auto created, storage.create(job.identity));
  const std::shared_ptr<PackWriter> writer = std::move(created);
  CELSLM_CHECK_OK(read_blocks(from, name, opened.blocks, *writer, stop));
  return finish_fetched(job, writer, opened.header, opened.blocks, storage, key);
}

Result<StoredPack> finish_fetched(PackJob& job, const std::shared_ptr<PackWriter>& writer, ByteView header,
                                  const std::vector<BlockEntry>& entries, PackStorage& storage, const SigningKey& key) {
  CELSLM_CHECK_OK(writer->commit(header));
  CELSLM_TRY(StoredPack stored, storage.find(job.pack_id));
  std::vector<SignedEntry> signed_entries;
  signed_entries.reserve(entries.size());
  for (const BlockEntry& entry : entries)
    signed_entries.push_back(sign_entry(job.pack_id, static_cast<std::uint32_t>(signed_entries.size()), entry, key));
  job.begin(writer);
  job.announce(signed_entries);
  return stored;
}

}  // namespace celslm
