// Limits on the memory, threads and time that a peer can make us spend, each with the attack that it stops.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace celslm {

// Server side.
inline constexpr std::size_t kMaxHeadBytes = 64U << 10;   // a request head without end would fill memory; a token has 20 KB
inline constexpr std::size_t kMaxHeaderFields = 256;      // fields that cost more to keep than to send
inline constexpr std::size_t kMaxTargetBytes = 4U << 10;  // a very long URL, matched against every route
inline constexpr int kMaxPathSegments = 32;               // a path of ten thousand slashes
// Required average rates: a client that sends or receives one byte just before every timeout would hold its memory for
// hours.
inline constexpr std::uint64_t kMinBodyBytesPerS = 16U << 10;
inline constexpr std::uint64_t kMinSendBytesPerS = 1U << 10;
// Bodies up to this size are always read; what exceeds it counts against HttpServerOptions::body_memory_bytes.
inline constexpr std::size_t kSmallBodyBytes = 64U << 10;
// What may arrive of later requests while one is being answered; more stays in the kernel's buffer.
inline constexpr std::size_t kMaxPipelinedBytes = 16U << 10;
inline constexpr std::size_t kMaxChunkHeadBytes = 16U << 10;  // a chunk extension without end
inline constexpr int kOpenPathThreads = 2;  // for /health and the like, so that it responds while all others are busy
inline constexpr int kCallbackThreads = 2;  // of pushed bodies whose client has room again, or has gone
inline constexpr int kMaxThreads = 1024;    // a typo in a configuration file
// Open files that connections leave to the rest of the program: packs, models, sources, sockets of its own calls.
inline constexpr int kReservedFiles = 256;
inline constexpr std::chrono::milliseconds kKeepAlive{60'000};  // how long a connection may wait without a request
// A connection whose request has been arriving for this long may be ended for a new one (only if there is no room).
inline constexpr std::chrono::milliseconds kSlowRequest{1'000};
// After an early refusal (401, 413) the client may still be sending; closing immediately would reset the connection before
// it has read the response. Its input is read and discarded up to these limits.
inline constexpr std::chrono::milliseconds kLinger{1'000};
inline constexpr std::size_t kLingerBytes = 4U << 20;
inline constexpr int kListenBacklog = 4096;  // absorbs a burst of edges that reconnect after a power cut
// A stream with a filler that is quiet: how often it is written, and how often to a client that has closed its sending side.
inline constexpr std::chrono::milliseconds kQuietInterval{10'000};
inline constexpr std::chrono::milliseconds kProbeInterval{1'000};

// Client side.
inline constexpr std::size_t kMaxAnswerHeadBytes = 64U << 10;  // headers without end
inline constexpr std::size_t kMaxErrorBodyBytes = 1U << 20;    // an error page without end in response to a range request
inline constexpr std::size_t kMaxIdleChannels = 16;            // connections kept after a burst of calls

}  // namespace celslm
