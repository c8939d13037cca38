#include "serve/wire/pack_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "net/pulled_body.h"
#include "serve/wire/errors.h"

namespace celslm {
namespace {

constexpr std::size_t kPieceBytes = 64U << 10;  // pushed at once
constexpr std::size_t kEntriesTogether = 64;    // signed and pushed at once

// Bytes [first, end) of the file, for each part. A file that has become shorter ends the body before its end.
std::function<void(std::shared_ptr<BodyWriter>)> body_of(const StoredPack& pack, std::vector<ByteRange> parts,
                                                         OnSent on_sent) {
  return pulled_body([file = pack.file, parts = std::move(parts), part = std::size_t{0},
                      on_sent = std::move(on_sent)]() mutable -> Result<std::optional<std::string>> {
    while (part < parts.size() && parts[part].first == parts[part].end) ++part;
    if (part == parts.size()) return std::nullopt;
    ByteRange& rest = parts[part];
    CELSLM_TRY(const Bytes piece, file->read(rest.first, std::min<std::uint64_t>(rest.end - rest.first, kPieceBytes)));
    rest.first += piece.size();
    on_sent(piece.size());
    return std::string(as_text(piece));
  });
}

// A range of `all`, which is part of the file.
HttpResponse range_response(const StoredPack& pack, ByteRange all, std::string_view range_header, OnSent on_sent) {
  const std::uint64_t size = all.end - all.first;
  const auto range = parse_range(range_header, size);
  if (!range) return range_refused(size, range.error().message);
  HttpResponse out{.status = *range ? 206 : 200, .content_type = kPackContentType};
  out.headers["Accept-Ranges"] = "bytes";
  if (*range) {
    out.headers["Content-Range"] = content_range(**range, std::to_string(size));
    all = {all.first + (*range)->first, all.first + (*range)->end};
  }
  out.content_length = all.end - all.first;
  out.pushed = body_of(pack, {all}, std::move(on_sent));
  return out;
}

// Of blocks "FIRST-LAST".
Result<ByteRange> range_of_blocks(const StoredPack& pack, std::string_view blocks) {
  const auto count = static_cast<std::uint64_t>(pack.header.blocks.size());
  const auto range = parse_range("bytes=" + std::string(blocks), count);
  if (!range || !blocks.contains('-') || blocks.starts_with('-') || blocks.ends_with('-'))
    return fail(ErrorKind::kInvalid, "'blocks' must be FIRST-LAST with block numbers below {}", count);
  const BlockEntry& first = pack.header.blocks[(*range)->first];
  const BlockEntry& last = pack.header.blocks[(*range)->end - 1];
  return ByteRange{pack.region_offset + first.offset, pack.region_offset + last.offset + last.bytes};
}

// Signed as they are sent: signing all takes tens of milliseconds.
std::string signed_entries(const StoredPack& pack, std::size_t from, const SigningKey& key) {
  const Hash256 pack_id = pack.header.identity.id();
  std::string out;
  for (std::size_t i = from; i < std::min(from + kEntriesTogether, pack.header.blocks.size()); ++i)
    out += as_text(encode_entry(sign_entry(pack_id, static_cast<std::uint32_t>(i), pack.header.blocks[i], key)));
  return out;
}

}  // namespace

// total: "*" while it is not known
std::string content_range(const ByteRange& range, std::string_view total) {
  return fmt::format("bytes {}-{}/{}", range.first, range.end - 1, total);
}

HttpResponse range_refused(std::uint64_t available, std::string_view why) {
  HttpResponse out = error_response(ApiError::kRangeNotAvailable, why);
  out.headers["Content-Range"] = fmt::format("bytes */{}", available);
  return out;
}

HttpResponse header_response(const StoredPack& pack, std::string_view blocks, OnSent on_sent) {
  HttpResponse out{.content_type = kPackContentType};
  std::vector<ByteRange> parts{{0, pack.region_offset}};
  if (!blocks.empty()) {
    const auto named = range_of_blocks(pack, blocks);
    if (!named) return error_response(named.error());
    parts.push_back(*named);
  }
  out.headers["x-celslm-state"] = "complete";
  out.content_length = 0;
  for (const ByteRange& part : parts) *out.content_length += part.end - part.first;
  out.pushed = body_of(pack, std::move(parts), std::move(on_sent));
  return out;
}

HttpResponse entries_response(const StoredPack& pack, int from, const SigningKey& key, OnSent on_sent) {
  HttpResponse out{.content_type = kPackContentType};
  out.pushed = pulled_body([pack, at = static_cast<std::size_t>(from), &key,
                            on_sent = std::move(on_sent)]() mutable -> Result<std::optional<std::string>> {
    std::string piece = signed_entries(pack, at, key);
    if (piece.empty()) return std::nullopt;
    at += kEntriesTogether;
    on_sent(piece.size());
    return piece;
  });
  return out;
}

HttpResponse blocks_response(const StoredPack& pack, std::string_view range, OnSent on_sent) {
  return range_response(pack, {pack.region_offset, pack.file->size()}, range, std::move(on_sent));
}

HttpResponse file_response(const StoredPack& pack, std::string_view range, OnSent on_sent) {
  return range_response(pack, {0, pack.file->size()}, range, std::move(on_sent));
}

}  // namespace celslm
