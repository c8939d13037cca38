#include "align/study/journal.h"

#include <nlohmann/json.hpp>

#include "core/append.h"
#include "core/file.h"
#include "core/json.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxStateBytes = 1ULL << 30;
constexpr JsonLimits kLimits{.values = 1 << 26};

std::string header_of(const StudyKey& key) {
  return dump_json(json{{"study_state", kStudyVersion},
                        {"model", key.model.hex()},
                        {"system", key.system.hex()},
                        {"seed", key.options.seed},
                        {"budget", key.options.budget},
                        {"wanted", key.options.questions},
                        {"ask_by", static_cast<int>(key.options.ask_by)}});
}

std::string check_of(const std::string& round) {
  return hash_of(round).hex().substr(0, 16);
}

Result<StudyRound> parse_round(std::string_view line) {
  CELSLM_TRY(const json object, parse_object(line, kLimits));
  const JsonFields fields(object);
  CELSLM_TRY(const std::string check, fields.required_text("check"));
  const json* round = fields.find("round");
  if (round == nullptr) return fields.expected("round", "an object");
  if (check_of(dump_json(*round)) != check) return fail(ErrorKind::kInvalid, "a line's check sum is not that of its round");
  return round_from(*round);
}

}  // namespace

Result<StudyJournal> StudyJournal::open(const std::filesystem::path& path, const StudyKey& key) {
  StudyJournal out(path);
  const std::string header = header_of(key) + "\n";
  const auto bytes = read_file(path, kMaxStateBytes);
  if (!bytes && bytes.error().kind == ErrorKind::kIo) return std::unexpected(bytes.error());
  if (bytes) {
    std::size_t sound = 0;
    const std::string_view text = as_text(*bytes);
    const Status read = out.replay(text, header, sound);
    if (read && sound == text.size()) return out;
    if (read && sound > 0) {
      CELSLM_CHECK_OK(write_file_atomically(path, as_bytes(text.substr(0, sound))));
      return out;
    }
    out.progress_ = {};
    if (!read) out.problem_ = fmt::format("{}: {}; the study begins again", path.string(), read.error().message);
  } else if (bytes.error().kind == ErrorKind::kInvalid) {
    out.problem_ = bytes.error().message + "; the study begins again";
  }
  CELSLM_CHECK_OK(write_file_atomically(path, as_bytes(header)));
  return out;
}

// sound_bytes: how far the file is sound; what follows is a line without an end.
Status StudyJournal::replay(std::string_view text, const std::string& header, std::size_t& sound_bytes) {
  if (!text.contains('\n')) return {};
  if (!text.starts_with(header)) return fail(ErrorKind::kInvalid, "the state of another study");
  sound_bytes = header.size();
  for (std::size_t end = 0; (end = text.find('\n', sound_bytes)) != std::string_view::npos; sound_bytes = end + 1) {
    if (progress_.finished) return fail(ErrorKind::kInvalid, "lines behind the last round");
    CELSLM_TRY(StudyRound round, parse_round(text.substr(sound_bytes, end - sound_bytes)));
    progress_.add(std::move(round));
  }
  return {};
}

Status StudyJournal::append(const StudyRound& round) {
  json object = to_json(round);
  const std::string check = check_of(dump_json(object));
  return append_durably(path_, as_bytes(dump_json(json{{"check", check}, {"round", std::move(object)}}) + "\n"));
}

Status StudyJournal::remove() {
  std::error_code error;
  std::filesystem::remove(path_, error);
  if (error) return fail(ErrorKind::kIo, "{}: cannot remove: {}", path_.string(), error.message());
  return {};
}

}  // namespace celslm
