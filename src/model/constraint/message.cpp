#include "model/constraint/message.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace celslm {
namespace {

struct Header {
  MessageKind kind{};
  std::uint32_t size = 0;
};

std::unexpected<Error> gone() {
  return fail(ErrorKind::kUnavailable, "the process that runs this answer's grammar has ended");
}

Status send_all(int socket, const char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t n = ::send(socket, data, size, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return gone();
    data += n;
    size -= static_cast<std::size_t>(n);
  }
  return {};
}

Status receive_all(int socket, char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t n = ::recv(socket, data, size, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return gone();
    data += n;
    size -= static_cast<std::size_t>(n);
  }
  return {};
}

Result<Header> header_of(const char* bytes) {
  Header out;
  std::memcpy(&out, bytes, sizeof out);
  if (out.size > kMaxMessageBytes) return gone();
  return out;
}

// Room for two descriptors beside a message.
struct alignas(cmsghdr) Ancillary {
  std::array<char, CMSG_SPACE(2 * sizeof(int))> bytes{};
};

}  // namespace

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this == &other) return *this;
  if (fd_ >= 0) ::close(fd_);
  fd_ = other.release();
  return *this;
}

int Descriptor::release() {
  return std::exchange(fd_, -1);
}

Status send_message(int socket, const Message& message) {
  const Header header{.kind = message.kind, .size = static_cast<std::uint32_t>(message.body.size())};
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes += message.body;
  return send_all(socket, bytes.data(), bytes.size());
}

Result<Message> receive_message(int socket) {
  std::array<char, sizeof(Header)> bytes{};
  CELSLM_CHECK_OK(receive_all(socket, bytes.data(), bytes.size()));
  CELSLM_TRY(const Header header, header_of(bytes.data()));
  Message out{.kind = header.kind, .body = std::string(header.size, '\0')};
  CELSLM_CHECK_OK(receive_all(socket, out.body.data(), out.body.size()));
  return out;
}

Result<std::optional<Message>> MessageReader::read(int socket) {
  std::array<char, 65536> buffer{};
  for (;;) {
    if (bytes_.size() >= sizeof(Header)) {
      CELSLM_TRY(const Header header, header_of(bytes_.data()));
      if (bytes_.size() >= sizeof header + header.size) {
        Message out{.kind = header.kind, .body = bytes_.substr(sizeof header, header.size)};
        bytes_.erase(0, sizeof header + header.size);
        return out;
      }
    }
    const ssize_t n = ::recv(socket, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return std::nullopt;
    if (n <= 0) return gone();
    bytes_.append(buffer.data(), static_cast<std::size_t>(n));
  }
}

Status send_descriptors(int socket, int first, int second) {
  const std::array<int, 2> fds{first, second};
  Ancillary ancillary;
  char byte = 0;
  iovec data{.iov_base = &byte, .iov_len = 1};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (first >= 0 && second >= 0) {
    message.msg_control = ancillary.bytes.data();
    message.msg_controllen = ancillary.bytes.size();
    cmsghdr* control = CMSG_FIRSTHDR(&message);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(sizeof fds);
    std::memcpy(CMSG_DATA(control), fds.data(), sizeof fds);
  }
  return ::sendmsg(socket, &message, MSG_NOSIGNAL) == 1 ? Status{} : gone();
}

Result<std::pair<Descriptor, Descriptor>> receive_descriptors(int socket) {
  Ancillary ancillary;
  char byte = 0;
  iovec data{.iov_base = &byte, .iov_len = 1};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = ancillary.bytes.data();
  message.msg_controllen = ancillary.bytes.size();
  ssize_t n = 0;
  do n = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n <= 0) return gone();
  std::array<int, 2> fds{-1, -1};
  const cmsghdr* control = CMSG_FIRSTHDR(&message);
  if (control != nullptr && control->cmsg_type == SCM_RIGHTS && control->cmsg_len == CMSG_LEN(sizeof fds))
    std::memcpy(fds.data(), CMSG_DATA(control), sizeof fds);
  return std::pair(Descriptor(fds[0]), Descriptor(fds[1]));
}

}  // namespace celslm
