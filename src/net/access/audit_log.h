// Who registered, removed and fetched what, and when: a line of JSON for each (docs/trust.md).
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "core/clock.h"
#include "core/log.h"
#include "core/mutex.h"
#include "core/result.h"
#include "net/access/caller.h"

namespace celslm {

// One thing that was asked for. Names and hashes only: never a token, a prompt or a text.
struct AuditEvent {
  std::string what;  // "register", "remove", "read", "fetch"
  int status = 0;    // of the answer
  std::string context;
  std::string model;
  std::string codec;
};

// Appends to a file that is its owner's alone. A line that cannot be written (a full disk) is lost, and one line of the log
// reports that and the next success: a server whose disk is full must go on to answer. Thread-safe.
class AuditLog {
 public:
  // node: which server writes, "cloud" or "edge". kIo if the file cannot be opened; kInvalid if others may read or write it.
  static Result<std::shared_ptr<AuditLog>> open(std::filesystem::path file, std::string node, const Clock& clock, Log log);
  ~AuditLog();
  AuditLog(const AuditLog&) = delete;
  AuditLog& operator=(const AuditLog&) = delete;

  void record(const AuditEvent& event, const Caller& caller) CELSLM_EXCLUDES(mutex_);
  // Opens the file by its name again, after whoever rotates it has moved it away. On error the old one stays in use.
  Status reopen() CELSLM_EXCLUDES(mutex_);

 private:
  AuditLog(std::filesystem::path file, std::string node, const Clock& clock, Log log);
  std::string line_of(const AuditEvent& event, const Caller& caller) const;

  const std::filesystem::path file_;
  const std::string node_;
  const Clock& clock_;
  const Log log_;
  Mutex mutex_;
  int fd_ CELSLM_GUARDED_BY(mutex_) = -1;
  bool failing_ CELSLM_GUARDED_BY(mutex_) = false;
};

}  // namespace celslm
