#include "cli/study/study_output.h"

#include <nlohmann/json.hpp>

#include "core/append.h"
#include "core/file.h"
#include "core/json.h"

namespace celslm {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr std::uint64_t kMaxFileBytes = 4ULL << 30;
constexpr JsonLimits kLimits{.values = 1 << 26};

Status differs(std::string_view what, const std::string& there, const std::string& now) {
  return fail(ErrorKind::kMismatch, "it was made with {} {}, this run has {}: give the same, or another --out", what, there,
              now);
}

Status check_recipe(const JsonFields& study, const StudyRecipe& recipe) {
  CELSLM_TRY(const Hash256 model, study.required_hash("model"));
  if (model != recipe.model) return differs("model", model.hex(), recipe.model.hex());
  CELSLM_TRY(const auto seed, study.integer("seed", 0, INT64_MAX));
  if (!recipe.options) {
    return seed ? fail(ErrorKind::kMismatch, "it holds questions of a study, not annotated ones: give another --out")
                : Status();
  }
  if (!seed) return fail(ErrorKind::kMismatch, "it holds annotated questions, not a study: give another --out");
  CELSLM_TRY(const auto budget, study.required_integer("budget", 0, INT64_MAX));
  CELSLM_TRY(const auto wanted, study.required_integer("wanted", 0, INT32_MAX));
  const StudyOptions& now = *recipe.options;
  if ((study.find("ask_by") != nullptr) != (now.ask_by == AskBy::kUserTurn))
    return fail(ErrorKind::kMismatch, "it was made with another --ask-by: give the same, or another --out");
  if (static_cast<std::uint64_t>(*seed) != now.seed)
    return differs("--seed", fmt::to_string(*seed), fmt::to_string(now.seed));
  if (budget != now.budget) return differs("--budget", fmt::to_string(budget), fmt::to_string(now.budget));
  if (wanted != now.questions)
    return differs("--questions-per-context", fmt::to_string(wanted), fmt::to_string(now.questions));
  return {};
}

}  // namespace

Result<StudyOutput> StudyOutput::open(const fs::path& path, const StudyRecipe& recipe) {
  StudyOutput out(path);
  const auto bytes = read_file(path, kMaxFileBytes);
  if (!bytes && bytes.error().kind == ErrorKind::kNotFound) return out;
  if (!bytes) return std::unexpected(bytes.error());
  std::size_t sound = 0;
  if (const Status status = out.read(as_text(*bytes), recipe, sound); !status) return std::unexpected(status.error());
  if (sound < bytes->size()) CELSLM_CHECK_OK(write_file_atomically(path, as_bytes(as_text(*bytes).substr(0, sound))));
  return out;
}

// sound_bytes: up to the first line that is unfinished or has no end.
Status StudyOutput::read(std::string_view text, const StudyRecipe& recipe, std::size_t& sound_bytes) {
  std::size_t begin = 0;
  for (int number = 1; begin < text.size(); ++number) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string_view::npos) return {};
    const auto read_line = [&]() -> Result<bool> {
      CELSLM_TRY(const json object, parse_object(text.substr(begin, end - begin), kLimits));
      const JsonFields fields(object);
      CELSLM_TRY(const JsonFields study, fields.required_object("study"));
      CELSLM_CHECK_OK(check_recipe(study, recipe));
      CELSLM_TRY(const bool finished, study.required_flag("finished"));
      StudyText done;
      CELSLM_TRY(done.id, fields.required_text("id"));
      CELSLM_TRY(done.text, fields.required_text("context"));
      CELSLM_TRY(const auto system, fields.text("system"));
      done.system = system.value_or("");
      if (finished) done_[done.id] = hash_of(done.system_message());
      return finished;
    };
    const auto finished = read_line();
    if (!finished) return wrap(finished.error(), fmt::format("{}:{}", path_.string(), number));
    begin = end + 1;
    if (*finished) sound_bytes = begin;
  }
  return {};
}

bool StudyOutput::has(const StudyText& text) const {
  const auto it = done_.find(text.id);
  return it != done_.end() && it->second == hash_of(text.system_message());
}

Status StudyOutput::append(const StudyText& text, const std::string& line) {
  CELSLM_CHECK_OK(append_durably(path_, as_bytes(line + "\n")));
  done_[text.id] = hash_of(text.system_message());
  return {};
}

fs::path StudyOutput::state_folder() const {
  return path_.string() + ".partial";
}

Result<fs::path> StudyOutput::state_of(const StudyText& text) const {
  std::error_code error;
  fs::create_directories(state_folder(), error);
  if (error) return fail(ErrorKind::kIo, "{}: cannot create: {}", state_folder().string(), error.message());
  return state_folder() / (hash_of(text.id + '\0' + text.system_message()).hex().substr(0, 16) + ".jsonl");
}

void StudyOutput::remove_states() const {
  std::error_code ignored;
  fs::remove_all(state_folder(), ignored);
}

}  // namespace celslm
