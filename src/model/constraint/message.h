// What an edge and the processes that run its grammars send each other: a kind, a size, and so many bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "core/result.h"

namespace celslm {

enum class MessageKind : std::uint32_t {
  // To a child. The first is its grammar.
  kCompile,  // GBNF
  kOffer,    // a Token
  kBegin,    // a text
  // From it: one answer to each.
  kAccepted,
  kRejected,  // a TokenMask's bytes; of a text, none
  kInvalid,   // the grammar does not parse: what libllama reported
  kTooSlow,   // and it has ended
  kTooLarge,
  kCrashed,
  // From the host, once.
  kReady,
  kFailed,  // why
};

struct Message {
  MessageKind kind{};
  std::string body;
};

inline constexpr std::size_t kMaxMessageBytes = 4U << 20;

// A file descriptor that is closed at the end.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  int get() const { return fd_; }
  int release();

 private:
  int fd_;
};

// All of it, waiting as long as it takes; kUnavailable when the other side has gone (or takes longer than the socket's own
// time limit).
Status send_message(int socket, const Message& message);
Result<Message> receive_message(int socket);

// Collects what a socket gives without waiting.
class MessageReader {
 public:
  // A complete message, or none yet. kUnavailable when the other side has gone.
  Result<std::optional<Message>> read(int socket);

 private:
  std::string bytes_;
};

// A descriptor over a socket, beside one byte. No descriptor arrives as -1 in it.
Status send_descriptors(int socket, int first, int second);
Result<std::pair<Descriptor, Descriptor>> receive_descriptors(int socket);

}  // namespace celslm
