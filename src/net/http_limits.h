// What a peer may make this layer hold or wait for; each limit with the attack it stops.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace celslm {

// Server side.
inline constexpr std::size_t kMaxHeadBytes = 32U << 10;   // a request head that never ends fills memory
inline constexpr std::size_t kMaxTargetBytes = 4U << 10;  // a URL as long as a book, matched against every route
inline constexpr int kMaxPathSegments = 32;               // a path of ten thousand slashes
// A client that sends, or takes, one byte whenever its time-out is about to strike holds a thread for hours: the average
// must reach these.
inline constexpr std::uint64_t kMinBodyBytesPerS = 16U << 10;
inline constexpr std::uint64_t kMinSendBytesPerS = 1U << 10;
// Connections above n_threads that may still say what they want: they get 503, or one of the open paths (/health), so
// that long streams on every thread never make a live server look dead.
inline constexpr int kReserveThreads = 4;
inline constexpr int kMaxThreads = 1024;  // a typing error in a configuration file
// Sockets that keep a thread by asking nothing.
inline constexpr std::chrono::milliseconds kKeepAlive{60'000};
// A head that has been coming for this long may lose its thread to a new connection (only when none is free).
inline constexpr std::chrono::milliseconds kSlowHead{1'000};
// After an early refusal (401, 413) the client may still be sending; closing at once would reset the connection before
// it has read the answer. So we read on, but no longer and no more than this.
inline constexpr std::chrono::milliseconds kLinger{1'000};
inline constexpr std::size_t kLingerBytes = 4U << 20;
inline constexpr int kListenBacklog = 512;  // a burst of edges coming back after a power cut

// Client side.
inline constexpr std::size_t kMaxAnswerHeadBytes = 64U << 10;  // a server that never stops sending headers
inline constexpr std::size_t kMaxErrorBodyBytes = 1U << 20;    // an error page without end while a range is asked for
inline constexpr std::size_t kMaxIdleChannels = 16;            // connections kept after a burst of calls

}  // namespace celslm
