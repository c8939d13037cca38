#include "net/access/audit_log.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/json.h"
#include "core/printable.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;

// "2026-11-28T19:10:00.123Z"
std::string timestamp(std::chrono::system_clock::time_point time) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch());
  const std::time_t whole = std::chrono::system_clock::to_time_t(time);
  std::tm utc{};
  ::gmtime_r(&whole, &utc);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", utc, ms.count() % 1000);
}

Result<int> open_private(const fs::path& file) {
  const int fd = ::open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return fail(ErrorKind::kIo, "{}: cannot open the audit log: {}", file.string(), std::strerror(errno));
  struct stat info{};
  if (::fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && (info.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    ::close(fd);
    return fail(ErrorKind::kInvalid, "{}: other users may read or write this audit log; run: chmod 600 {}", file.string(),
                file.string());
  }
  return fd;
}

}  // namespace

AuditLog::AuditLog(fs::path file, std::string node, const Clock& clock, Log log)
    : file_(std::move(file)), node_(std::move(node)), clock_(clock), log_(std::move(log)) {}

Result<std::shared_ptr<AuditLog>> AuditLog::open(fs::path file, std::string node, const Clock& clock, Log log) {
  std::shared_ptr<AuditLog> out(new AuditLog(std::move(file), std::move(node), clock, std::move(log)));
  CELSLM_CHECK_OK(out->reopen());
  return out;
}

AuditLog::~AuditLog() {
  const MutexLock lock(mutex_);
  if (fd_ >= 0) ::close(fd_);
}

Status AuditLog::reopen() {
  CELSLM_TRY(const int fd, open_private(file_));
  const MutexLock lock(mutex_);
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
  return {};
}

std::string AuditLog::line_of(const AuditEvent& event, const Caller& caller) const {
  nlohmann::ordered_json out{
      {"time", timestamp(clock_.wall())}, {"node", node_}, {"what", event.what}, {"status", event.status}};
  for (const auto& [name, value] :
       {std::pair("key", &caller.key), std::pair("tenant", &caller.tenant), std::pair("certificate", &caller.certificate),
        std::pair("address", &caller.address), std::pair("context", &event.context), std::pair("model", &event.model),
        std::pair("codec", &event.codec)}) {
    if (!value->empty()) out[name] = printable(*value);
  }
  return out.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

// One write for a line: lines of several processes that append to one file do not mix.
void AuditLog::record(const AuditEvent& event, const Caller& caller) {
  const std::string line = line_of(event, caller);
  const MutexLock lock(mutex_);
  ssize_t n = 0;
  do n = ::write(fd_, line.data(), line.size());
  while (n < 0 && errno == EINTR);
  const bool failed = n != static_cast<ssize_t>(line.size());
  if (failed && !failing_)
    log_->error("{}: the audit log cannot be written: {}; requests are answered all the same", file_.string(),
                n < 0 ? std::strerror(errno) : "no space left");
  if (!failed && failing_) log_->warn("{}: the audit log can be written again; lines are missing", file_.string());
  failing_ = failed;
}

}  // namespace celslm
