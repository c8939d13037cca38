// The file that a study writes, a context a line: opened again, it tells what was done.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "align/study/progress.h"
#include "core/hash.h"
#include "core/result.h"

namespace celslm {

// How the lines of one file are made; a run that would make others is refused.
struct StudyRecipe {
  Hash256 model;                        // fingerprint
  std::optional<StudyOptions> options;  // none: given questions are annotated
};

// One process at a time; used by one thread.
class StudyOutput {
 public:
  // Reads what is there; unfinished lines at the end are cut off. kMismatch: lines made by another recipe. kInvalid: the
  // file is something else. kIo.
  static Result<StudyOutput> open(const std::filesystem::path& path, const StudyRecipe& recipe);

  bool has(const StudyText& text) const;  // its id and context
  std::size_t size() const { return done_.size(); }
  Status append(const StudyText& text, const std::string& line);  // kIo

  // The state of a context under way, in a folder beside the file.
  Result<std::filesystem::path> state_of(const StudyText& text) const;
  void remove_states() const;

 private:
  explicit StudyOutput(std::filesystem::path path) : path_(std::move(path)) {}
  Status read(std::string_view text, const StudyRecipe& recipe, std::size_t& sound_bytes);
  std::filesystem::path state_folder() const;

  std::filesystem::path path_;
  std::map<std::string, Hash256> done_;  // by id: hash of the system message
};

}  // namespace celslm
