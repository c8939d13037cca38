#include "serve/cloud/pack_job_stream.h"

#include <fmt/format.h>

#include <algorithm>

namespace celslm {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 500ms;  // how often a waiting stream checks that its client is still connected

HttpResponse job_blocks(const std::shared_ptr<PackJob>& job, std::string_view range_header, OnSent on_sent) {
  const std::uint64_t announced = job->announced_bytes();
  if (range_header.empty())
    return range_refused(announced, "the pack is still being computed: ask for ranges of announced blocks");
  // Against the largest region first, so that a range beyond what is announced is refused, not shortened.
  const std::uint64_t size = block_region_bytes(job->identity).most;
  const auto range = parse_range(range_header, size);
  if (!range) return range_refused(announced, range.error().message);
  if (!*range || (*range)->end > announced) {
    return range_refused(announced, fmt::format("only bytes up to {} have been announced so far", announced));
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

// Whether the pack is complete; false if the client disconnected or the job failed before.
bool wait_complete(const PackJob& job, const std::function<bool()>& disconnected) {
  while (true) {
    const auto complete = job.wait_complete(kPatience);
    if (!complete) return false;
    if (*complete) return true;
    if (disconnected && disconnected()) return false;
  }
}

bool send_entries(const PackJob& job, int from, const std::function<bool()>& disconnected, const BodySink& sink,
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

HttpResponse job_header(const PackJob& job, const OnSent& on_sent) {
  HttpResponse out{.status = 202, .content_type = kPackContentType};
  out.headers["x-celslm-state"] = "computing";
  out.body = as_text(job.preamble);
  on_sent(out.body.size());
  return out;
}

HttpResponse job_entries(const std::shared_ptr<PackJob>& job, int from, std::function<bool()> disconnected, OnSent on_sent) {
  HttpResponse out{.content_type = kPackContentType};
  out.stream = [job, from, disconnected = std::move(disconnected), on_sent = std::move(on_sent)](const BodySink& sink) {
    return send_entries(*job, from, disconnected, sink, on_sent);
  };
  return out;
}

}  // namespace

HttpResponse header_response(const PackAccess& access, std::string_view blocks, OnSent on_sent) {
  if (const auto* job = std::get_if<std::shared_ptr<PackJob>>(&access)) return job_header(**job, on_sent);
  return header_response(std::get<StoredPack>(access), blocks, std::move(on_sent));
}

HttpResponse entries_response(const PackAccess& access, int from, const SigningKey& key, std::function<bool()> disconnected,
                              OnSent on_sent) {
  if (const auto* job = std::get_if<std::shared_ptr<PackJob>>(&access))
    return job_entries(*job, from, std::move(disconnected), std::move(on_sent));
  return entries_response(std::get<StoredPack>(access), from, key, std::move(on_sent));
}

HttpResponse blocks_response(const PackAccess& access, std::string_view range, OnSent on_sent) {
  if (const auto* job = std::get_if<std::shared_ptr<PackJob>>(&access)) return job_blocks(*job, range, std::move(on_sent));
  return blocks_response(std::get<StoredPack>(access), range, std::move(on_sent));
}

}  // namespace celslm
