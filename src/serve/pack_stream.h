// Packs as HTTP answers: entries as they come, ranges of blocks, whole files.
#pragma once

#include <functional>
#include <string_view>

#include "kv/pack_store.h"
#include "kv/signing.h"
#include "net/http_server.h"
#include "serve/pack_jobs.h"

namespace celslm {

inline constexpr const char* kPackContentType = "application/octet-stream";

// Told how many bytes went out, from the streaming thread.
using OnSent = std::function<void(std::size_t bytes)>;

// The header of a whole pack, with blocks "FIRST-LAST" behind it if they are named; 400 if there are no such blocks. Of a
// job: 202 and what is known before the first block.
HttpResponse header_response(const PackAccess& access, std::string_view blocks, OnSent on_sent);

// Signed entries from number `from` on. Of a job: as they are announced; the body ends well only once the pack is whole and
// kept, so that whoever asks for the header next gets it, and breaks if the computation fails.
HttpResponse entries_response(const PackAccess& access, int from, const SigningKey& key, std::function<bool()> disconnected,
                              OnSent on_sent);

// A range of the block region: 206; 416 for anything that is malformed or not announced. Without a range: 200 and the region
// of a whole pack, 416 of one that is being computed.
HttpResponse blocks_response(const PackAccess& access, std::string_view range, OnSent on_sent);

// The whole file, or a range of it.
HttpResponse file_response(const StoredPack& pack, std::string_view range, OnSent on_sent);

}  // namespace celslm
