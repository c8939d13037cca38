#include "cli/terminal/lost_pages.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace celslm {
namespace {

// Everything below runs in a signal handler: no memory is allocated, nothing is locked, and only functions are called that
// POSIX allows there.

// /proc/self/maps, character by character.
class Maps {
 public:
  Maps() : fd_(::open("/proc/self/maps", O_RDONLY | O_CLOEXEC)) {}
  ~Maps() {
    if (fd_ >= 0) ::close(fd_);
  }
  Maps(const Maps&) = delete;
  Maps& operator=(const Maps&) = delete;

  // -1 at the end.
  int next() {
    if (at_ == size_) {
      const ssize_t n = fd_ >= 0 ? ::read(fd_, buffer_.data(), buffer_.size()) : 0;
      if (n <= 0) return -1;
      size_ = static_cast<std::size_t>(n);
      at_ = 0;
    }
    return static_cast<unsigned char>(buffer_[at_++]);
  }
  // The number that ends at the next character that is no hexadecimal digit, which is read, too.
  std::uintptr_t hexadecimal() {
    std::uintptr_t out = 0;
    for (int c = next();; c = next()) {
      if (c >= '0' && c <= '9') {
        out = out * 16 + static_cast<std::uintptr_t>(c - '0');
      } else if (c >= 'a' && c <= 'f') {
        out = out * 16 + static_cast<std::uintptr_t>(c - 'a' + 10);
      } else {
        ended_ = c < 0;
        return out;
      }
    }
  }
  bool ended() const { return ended_; }

 private:
  const int fd_;
  std::array<char, 4096> buffer_;
  std::size_t size_ = 0;
  std::size_t at_ = 0;
  bool ended_ = false;
};

using Path = std::array<char, 4096>;

// The path at the end of the line; 0 characters where the memory is not a file's.
std::size_t read_path(Maps& maps, Path& path) {
  std::size_t n = 0;
  for (int c = maps.next(); c >= 0 && c != '\n'; c = maps.next()) {
    if (n == 0 && c != '/') continue;
    if (n < path.size()) path[n++] = static_cast<char>(c);
  }
  return n;
}

// Of the file that is mapped at the address.
std::size_t path_of_mapping(std::uintptr_t address, Path& path) {
  for (Maps maps; !maps.ended();) {
    const std::uintptr_t begin = maps.hexadecimal();
    const std::uintptr_t end = maps.hexadecimal();
    const std::size_t n = read_path(maps, path);
    if (begin <= address && address < end) return n;
    if (end == 0) return 0;
  }
  return 0;
}

void print(const char* text, std::size_t n) {
  while (n > 0) {
    const ssize_t written = ::write(STDERR_FILENO, text, n);
    if (written <= 0) return;
    text += written;
    n -= static_cast<std::size_t>(written);
  }
}

void print(const char* text) {
  print(text, std::strlen(text));
}

void on_bus_error(int /*signal*/, siginfo_t* info, void* /*context*/) {
  static std::atomic_flag reported;
  Path path;
  const std::size_t n =
      info->si_code == BUS_ADRERR ? path_of_mapping(reinterpret_cast<std::uintptr_t>(info->si_addr), path) : 0;
  if (n == 0) {  // something else: the process dies of it once the handler has returned
    std::signal(SIGBUS, SIG_DFL);
    std::raise(SIGBUS);
    return;
  }
  while (reported.test_and_set()) ::pause();  // another thread is ending the process
  print("celslm: ");
  print(path.data(), n);
  print(": the file has become shorter, or its disk fails, while the program uses it: put the file back and start again\n");
  ::_exit(kExitFileLost);
}

}  // namespace

void end_clearly_where_a_mapped_file_is_lost() {
  struct sigaction action{};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace celslm
