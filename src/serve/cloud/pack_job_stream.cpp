#include "serve/cloud/pack_job_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "net/http_stream.h"
#include "net/pulled_body.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;

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
  out.pushed = pulled_body([job, at = (*range)->first, end = (*range)->end,
                            on_sent = std::move(on_sent)]() mutable -> Result<std::optional<std::string>> {
    if (at == end) return std::nullopt;
    CELSLM_TRY(const Bytes bytes, job->read(at));
    const ByteView piece = ByteView(bytes).first(std::min<std::uint64_t>(bytes.size(), end - at));
    at += piece.size();
    on_sent(piece.size());
    return std::string(as_text(piece));
  });
  return out;
}

// One client that follows a job, kept alive by the job until the body ends.
class EntriesStream : public std::enable_shared_from_this<EntriesStream> {
 public:
  EntriesStream(std::shared_ptr<PackJob> job, int from, WorkerPool& followers, OnSent on_sent)
      : job_(std::move(job)), followers_(followers), on_sent_(std::move(on_sent)), at_(from) {}

  void begin(std::shared_ptr<BodyWriter> body) {
    body_ = std::move(body);
    follower_ = job_->follow([self = shared_from_this()] { self->schedule(); });
    scheduled_ = false;
    body_->on_change([self = shared_from_this()] { self->schedule(); });
    schedule();
  }

 private:
  void schedule() {
    if (scheduled_.exchange(true)) return;
    followers_.run([self = shared_from_this()] {
      self->scheduled_ = false;
      if (!self->ended_) self->ended_ = self->push_all();
    });
  }

  // What has been announced since the last time, as far as there is room. True once the body has ended.
  bool push_all() {
    while (!body_->gone() && at_ < job_->identity.n_blocks()) {
      const std::size_t room = body_->room() / kSignedEntryBytes * kSignedEntryBytes;
      if (room == 0) return end_if_gone();
      auto entries = job_->entries(at_, 0ms);
      if (!entries) return end(false);
      if (entries->empty()) return end_if_gone();
      entries->resize(std::min(entries->size(), room));
      if (!body_->push(std::string(as_text(*entries)))) return end(false);
      on_sent_(entries->size());
      at_ += static_cast<int>(entries->size() / kSignedEntryBytes);
    }
    if (body_->gone()) return end(false);
    const auto complete = job_->wait_complete(0ms);
    return complete && !*complete ? false : end(complete.has_value());
  }
  bool end_if_gone() { return body_->gone() && end(false); }
  bool end(bool complete) {
    job_->unfollow(follower_);
    complete ? body_->end() : body_->abort();
    return true;
  }

  const std::shared_ptr<PackJob> job_;
  WorkerPool& followers_;
  const OnSent on_sent_;
  std::shared_ptr<BodyWriter> body_;
  int follower_ = 0;
  std::atomic<bool> scheduled_{true};  // until it has begun
  // The followers' thread only.
  int at_;
  bool ended_ = false;
};

HttpResponse job_header(const PackJob& job, const OnSent& on_sent) {
  HttpResponse out{.status = 202, .content_type = kPackContentType};
  out.headers["x-celslm-state"] = "computing";
  out.body = as_text(job.preamble);
  on_sent(out.body.size());
  return out;
}

HttpResponse job_entries(const std::shared_ptr<PackJob>& job, int from, WorkerPool& followers, OnSent on_sent) {
  HttpResponse out{.content_type = kPackContentType};
  const auto stream = std::make_shared<EntriesStream>(job, from, followers, std::move(on_sent));
  out.pushed = [stream](std::shared_ptr<BodyWriter> body) { stream->begin(std::move(body)); };
  out.ends_with_input = true;
  return out;
}

}  // namespace

HttpResponse header_response(const PackAccess& access, std::string_view blocks, OnSent on_sent) {
  if (const auto* job = std::get_if<std::shared_ptr<PackJob>>(&access)) return job_header(**job, on_sent);
  return header_response(std::get<StoredPack>(access), blocks, std::move(on_sent));
}

HttpResponse entries_response(const PackAccess& access, int from, const SigningKey& key, WorkerPool& followers,
                              OnSent on_sent) {
  if (const auto* job = std::get_if<std::shared_ptr<PackJob>>(&access))
    return job_entries(*job, from, followers, std::move(on_sent));
  return entries_response(std::get<StoredPack>(access), from, key, std::move(on_sent));
}

HttpResponse blocks_response(const PackAccess& access, std::string_view range, OnSent on_sent) {
  if (const auto* job = std::get_if<std::shared_ptr<PackJob>>(&access)) return job_blocks(*job, range, std::move(on_sent));
  return blocks_response(std::get<StoredPack>(access), range, std::move(on_sent));
}

}  // namespace celslm
