// The state file of one study under way: a line of JSON that names what is studied, then a line per finished round, each
// with a check sum. Lines are only ever added, and are on the disk before append() returns.
#pragma once

#include <filesystem>
#include <string>

#include "align/study/progress.h"
#include "core/hash.h"
#include "core/result.h"

namespace celslm {

struct StudyKey {
  Hash256 model;   // fingerprint
  Hash256 system;  // of the system message
  StudyOptions options;
};

// Used by one thread; one object per file.
class StudyJournal {
 public:
  // Opens or begins the file. What it holds of this study is progress(). A line that a killed process left half written is
  // cut off. A file that is damaged otherwise, or is of another study, is begun again: problem() then tells why. kIo.
  static Result<StudyJournal> open(const std::filesystem::path& path, const StudyKey& key);

  const StudyProgress& progress() const { return progress_; }
  const std::string& problem() const { return problem_; }  // empty: none

  Status append(const StudyRound& round);  // kIo
  Status remove();                         // the file; kIo

 private:
  explicit StudyJournal(std::filesystem::path path) : path_(std::move(path)) {}
  Status replay(std::string_view text, const std::string& header, std::size_t& sound_bytes);

  std::filesystem::path path_;
  StudyProgress progress_;
  std::string problem_;
};

}  // namespace celslm
