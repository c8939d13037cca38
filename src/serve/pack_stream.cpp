#include "serve/pack_stream.h"

#include <algorithm>

#include "serve/protocol.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 500ms;                // a stream that waits looks this often whether its client is still there
constexpr std::size_t kPieceBytes = 256U << 10;  // handed to the socket at once

template <typename... F>
struct Overloaded : F... {
  using F::operator()...;
};

// total: "*" while it is not known
std::string content_range(const ByteRange& range, std::string_view total) {
  return std::format("bytes {}-{}/{}", range.first, range.end - 1, total);
}

HttpResponse range_refused(std::uint64_t available, std::string_view why) {
  HttpResponse out = error_response(416, "range_not_available", why);
  out.headers["Content-Range"] = std::format("bytes */{}", available);
  return out;
}

std::function<bool(const BodySink&)> stream_of(const StoredPack& pack, std::vector<ByteView> parts, OnSent on_sent) {
  return [pack, parts = std::move(parts), on_sent = std::move(on_sent)](const BodySink& sink) {
    for (ByteView rest : parts) {
      while (!rest.empty()) {
        const ByteView piece = rest.first(std::min(rest.size(), kPieceBytes));
        if (!sink(as_text(piece))) return false;
        on_sent(piece.size());
        rest = rest.subspan(piece.size());
      }
    }
    return true;
  };
}

// Part of a mapped file, which `pack` keeps alive.
HttpResponse view_response(const StoredPack& pack, ByteView whole, std::string_view range_header, OnSent on_sent) {
  const auto range = parse_range(range_header, whole.size());
  if (!range) return range_refused(whole.size(), range.error().message);
  HttpResponse out{.status = *range ? 206 : 200, .content_type = kPackContentType};
  out.headers["Accept-Ranges"] = "bytes";
  if (*range) {
    out.headers["Content-Range"] = content_range(**range, std::to_string(whole.size()));
    whole = whole.subspan((*range)->first, (*range)->end - (*range)->first);
  }
  out.content_length = whole.size();
  out.stream = stream_of(pack, {whole}, std::move(on_sent));
  return out;
}

ByteView block_region(const StoredPack& pack) {
  return pack.file->bytes().subspan(pack.region_offset);
}

// Of blocks "FIRST-LAST".
Result<ByteView> bytes_of_blocks(const StoredPack& pack, std::string_view blocks) {
  const auto count = static_cast<std::uint64_t>(pack.header.blocks.size());
  const auto range = parse_range("bytes=" + std::string(blocks), count);
  if (!range || !blocks.contains('-') || blocks.starts_with('-') || blocks.ends_with('-'))
    return fail(ErrorKind::kInvalid, "'blocks' must be FIRST-LAST, of the pack's {} blocks", count);
  const BlockEntry& first = pack.header.blocks[(*range)->first];
  const BlockEntry& last = pack.header.blocks[(*range)->end - 1];
  return block_region(pack).subspan(first.offset, last.offset + last.bytes - first.offset);
}

HttpResponse job_blocks(const std::shared_ptr<PackJob>& job, std::string_view range_header, OnSent on_sent) {
  const std::uint64_t announced = job->announced_bytes();
  if (range_header.empty())
    return range_refused(announced, "the pack is still being computed: ask for ranges of announced blocks");
  // Against the largest region first, so that a range beyond what is announced is refused and never cut short.
  const std::uint64_t size = block_region_bytes(job->identity).most;
  const auto range = parse_range(range_header, size);
  if (!range) return range_refused(announced, range.error().message);
  if (!*range || (*range)->end > announced) {
    return range_refused(announced, std::format("only bytes up to {} have been announced so far", announced));
  }
  HttpResponse out{.status = 206, .content_type = kPackContentType};
  out.headers["Content-Range"] = content_range(**range, "*");
  out.content_length = (*range)->end - (*range)->first;
  out.stream = [job, range = **range, on_sent = std::move(on_sent)](const BodySink& sink) {
    for (std::uint64_t at = range.first; at < range.end;) {
      const auto bytes = job->read(at);
      if (!bytes) return false;
      const ByteView piece = ByteView(*bytes).first(std::min<std::uint64_t>(bytes->size(), range.end - at));
      if (!sink(as_text(piece))) return false;
      on_sent(piece.size());
      at += piece.size();
    }
    return true;
  };
  return out;
}

// Whether the pack became whole before the client left and the job failed.
bool wait_complete(const PackJob& job, const std::function<bool()>& disconnected) {
  while (true) {
    const auto complete = job.wait_complete(kPatience);
    if (!complete) return false;
    if (*complete) return true;
    if (disconnected && disconnected()) return false;
  }
}

bool send_job_entries(const PackJob& job, int from, const std::function<bool()>& disconnected, const BodySink& sink,
                      const OnSent& on_sent) {
  while (from < job.identity.n_blocks()) {
    const auto entries = job.entries(from, kPatience);
    if (!entries) return false;
    if (entries->empty() && disconnected && disconnected()) return false;
    if (entries->empty()) continue;
    if (!sink(as_text(*entries))) return false;
    on_sent(entries->size());
    from += static_cast<int>(entries->size() / kSignedEntryBytes);
  }
  return wait_complete(job, disconnected);
}

bool send_stored_entries(const StoredPack& pack, int from, const SigningKey& key, const BodySink& sink,
                         const OnSent& on_sent) {
  const Hash256 pack_id = pack.header.identity.id();
  for (std::size_t i = static_cast<std::size_t>(from); i < pack.header.blocks.size(); ++i) {
    const Bytes bytes = encode_entry(sign_entry(pack_id, static_cast<std::uint32_t>(i), pack.header.blocks[i], key));
    if (!sink(as_text(bytes))) return false;
    on_sent(bytes.size());
  }
  return true;
}

}  // namespace

HttpResponse header_response(const PackAccess& access, std::string_view blocks, OnSent on_sent) {
  HttpResponse out{.content_type = kPackContentType};
  const auto* stored = std::get_if<StoredPack>(&access);
  if (stored == nullptr) {
    out.status = 202;
    out.headers["x-celslm-state"] = "computing";
    out.body = as_text(std::get<std::shared_ptr<PackJob>>(access)->preamble);
    on_sent(out.body.size());
    return out;
  }
  std::vector<ByteView> parts{stored->file->bytes().first(stored->region_offset)};
  if (!blocks.empty()) {
    const auto named = bytes_of_blocks(*stored, blocks);
    if (!named) return error_response(400, "invalid_request", named.error().message);
    parts.push_back(*named);
  }
  out.headers["x-celslm-state"] = "complete";
  out.content_length = 0;
  for (const ByteView part : parts) *out.content_length += part.size();
  out.stream = stream_of(*stored, std::move(parts), std::move(on_sent));
  return out;
}

HttpResponse entries_response(const PackAccess& access, int from, const SigningKey& key, std::function<bool()> disconnected,
                              OnSent on_sent) {
  HttpResponse out{.content_type = kPackContentType};
  out.stream = [=, &key](const BodySink& sink) {
    return std::visit(Overloaded{[&](const StoredPack& pack) { return send_stored_entries(pack, from, key, sink, on_sent); },
                                 [&](const std::shared_ptr<PackJob>& job) {
                                   return send_job_entries(*job, from, disconnected, sink, on_sent);
                                 }},
                      access);
  };
  return out;
}

HttpResponse blocks_response(const PackAccess& access, std::string_view range, OnSent on_sent) {
  return std::visit(
      Overloaded{[&](const StoredPack& pack) { return view_response(pack, block_region(pack), range, on_sent); },
                 [&](const std::shared_ptr<PackJob>& job) { return job_blocks(job, range, on_sent); }},
      access);
}

HttpResponse file_response(const StoredPack& pack, std::string_view range, OnSent on_sent) {
  return view_response(pack, pack.file->bytes(), range, std::move(on_sent));
}

}  // namespace celslm
