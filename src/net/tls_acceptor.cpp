#include "net/tls_acceptor.h"

#include <sys/stat.h>

namespace celslm {

TlsAcceptor::Stamp TlsAcceptor::stamp_of(const std::string& path) {
  struct stat found{};
  if (path.empty() || ::stat(path.c_str(), &found) != 0) return {};
  constexpr std::int64_t kNsPerS = 1'000'000'000;
  return {
      .inode = found.st_ino, .bytes = found.st_size, .modified_ns = found.st_mtim.tv_sec * kNsPerS + found.st_mtim.tv_nsec};
}

TlsAcceptor::Stamps TlsAcceptor::stamps_of(const TlsFiles& files) {
  return {stamp_of(files.certificate), stamp_of(files.key), stamp_of(files.client_authority)};
}

// Stamps before contents: what changes meanwhile is read once more.
Result<std::unique_ptr<TlsAcceptor>> TlsAcceptor::create(TlsFiles files, Log log) {
  const Stamps stamps = stamps_of(files);
  CELSLM_TRY(auto context, TlsContext::create(files));
  return std::unique_ptr<TlsAcceptor>(new TlsAcceptor(std::move(files), stamps, std::move(context), std::move(log)));
}

void TlsAcceptor::read_again() {
  auto context = TlsContext::create(files_);
  if (!context) return log_->error("the certificate stays as it was: {}", context.error().message);
  context_ = *std::move(context);
  log_->info("{} was read again", files_.certificate);
}

// Sessions keep the certificate that they began with.
std::unique_ptr<TlsSession> TlsAcceptor::accept(int socket) {
  const Stamps now = stamps_of(files_);
  if (now != stamps_) {
    stamps_ = now;
    read_again();
  }
  return context_->accept(socket);
}

}  // namespace celslm
