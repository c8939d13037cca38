// Stored packs as HTTP answers: headers, signed entries, ranges of blocks, complete files.
#pragma once

#include <functional>
#include <string_view>

#include "kv/pack/signing.h"
#include "kv/store/pack_store.h"
#include "net/http_types.h"

namespace celslm {

inline constexpr const char* kPackContentType = "application/octet-stream";

// Called with the number of bytes that are about to be sent, from a thread of the server's.
using OnSent = std::function<void(std::size_t bytes)>;

// "bytes 0-99/1234"; total: "*" while unknown.
std::string content_range(const ByteRange& range, std::string_view total);
// 416 with the bytes that are available.
HttpResponse range_refused(std::uint64_t available, std::string_view why);

// The header, followed by blocks "FIRST-LAST" if given; 400 if there are no such blocks.
HttpResponse header_response(const StoredPack& pack, std::string_view blocks, OnSent on_sent);

// Entries from number `from` on, each signed. The key must outlive the stream.
HttpResponse entries_response(const StoredPack& pack, int from, const SigningKey& key, OnSent on_sent);

// A range of the block region: 206; 416 for anything that is malformed or outside. Without a range: 200 and all of it.
HttpResponse blocks_response(const StoredPack& pack, std::string_view range, OnSent on_sent);

// The file, or a range of it.
HttpResponse file_response(const StoredPack& pack, std::string_view range, OnSent on_sent);

}  // namespace celslm
