// HTTP responses for a cloud's packs: stored ones, and those that are being computed.
#pragma once

#include <string_view>

#include "core/worker_pool.h"
#include "serve/cloud/pack_jobs.h"
#include "serve/wire/pack_stream.h"

namespace celslm {

// As for a stored pack; of a job: 202 and what is known before the first block.
HttpResponse header_response(const PackAccess& access, std::string_view blocks, OnSent on_sent);

// Signed entries from number `from` on. Of a job: as they are announced; the body ends normally only once the pack is
// complete and stored, so that a request for the header then succeeds; it is aborted if the computation fails. Pushed by a
// thread of `followers`, which has one and outlives the jobs: thousands of clients may follow one job.
HttpResponse entries_response(const PackAccess& access, int from, const SigningKey& key, WorkerPool& followers,
                              OnSent on_sent);

// A range of the block region. Of a job: 416 for anything that has not been announced, and without a range.
HttpResponse blocks_response(const PackAccess& access, std::string_view range, OnSent on_sent);

}  // namespace celslm
