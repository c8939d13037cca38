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
// Required average rates: a client that sends or receives one byte just before every timeout would hold a thread for hours.
inline constexpr std::uint64_t kMinBodyBytesPerS = 16U << 10;
inline constexpr std::uint64_t kMinSendBytesPerS = 1U << 10;
// Threads beyond n_threads that still read requests: those get 503, or an answer if their path is open (/health), so that a
// server whose threads all hold long streams does not look dead.
inline constexpr int kReserveThreads = 4;
inline constexpr int kMaxThreads = 1024;  // a typo in a configuration file
// How long a connection without a request may hold a thread.
inline constexpr std::chrono::milliseconds kKeepAlive{60'000};
// A connection whose request head has been incomplete for this long may be ended for a new connection (only if no thread is
// free).
inline constexpr std::chrono::milliseconds kSlowHead{1'000};
// After an early refusal (401, 413) the client may still be sending; closing immediately would reset the connection before
// it has read the response. Its input is read and discarded up to these limits.
inline constexpr std::chrono::milliseconds kLinger{1'000};
inline constexpr std::size_t kLingerBytes = 4U << 20;
inline constexpr int kListenBacklog = 512;  // absorbs a burst of edges that reconnect after a power cut

// Client side.
inline constexpr std::size_t kMaxAnswerHeadBytes = 64U << 10;  // headers without end
inline constexpr std::size_t kMaxErrorBodyBytes = 1U << 20;    // an error page without end in response to a range request
inline constexpr std::size_t kMaxIdleChannels = 16;            // connections kept after a burst of calls

}  // namespace celslm
