#include "align/study/sources.h"

#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "align/study/prompts.h"
#include "core/file.h"
#include "core/json.h"
#include "core/text.h"
#include "core/utf8.h"

namespace celslm {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr std::uint64_t kMaxFileBytes = 1ULL << 30;
constexpr std::size_t kMaxItems = 1U << 24;  // lists are limited by the file's size
constexpr JsonLimits kLimits{.values = std::numeric_limits<int>::max() - 1};
constexpr std::string_view kSpaces = " \t\n\v\f\r";
constexpr std::string_view kLetters = "ABCDEFGH";

Status check_text(std::string_view text) {
  if (trimmed(text, kSpaces).empty()) return fail(ErrorKind::kInvalid, "the text is empty");
  if (!is_utf8(text) || text.contains('\0')) return fail(ErrorKind::kInvalid, "the text is not UTF-8 without NUL bytes");
  return {};
}

using LineReader = std::function<Status(std::string_view line, int number)>;

// Calls `read` with each line that is not empty, and puts file and line before its errors.
Status for_each_line(const fs::path& path, const LineReader& read) {
  CELSLM_TRY(const Bytes bytes, read_file(path, kMaxFileBytes));
  std::string_view rest = as_text(bytes);
  for (int number = 1; !rest.empty(); ++number) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (trimmed(line, kSpaces).empty()) continue;
    if (Status status = read(line, number); !status)
      return wrap(std::move(status).error(), fmt::format("{}:{}", path.string(), number));
  }
  return {};
}

Result<StudyText> context_of(const json& object, const fs::path& path, int number) {
  const JsonFields fields(object);
  StudyText out{.id = fmt::format("{}-{}", path.stem().string(), number)};
  if (const json* id = fields.find("id"); id != nullptr && (id->is_string() || id->is_number_integer()))
    out.id = id->is_string() ? id->get<std::string>() : id->dump();
  CELSLM_TRY(out.text, fields.required_text("context"));
  CELSLM_TRY(const auto system, fields.text("system"));
  out.system = system.value_or("");
  CELSLM_CHECK_OK(check_text(out.text));
  return out;
}

// A bulletin of models/worlds as a line of a file of questions: it is the complete system message, and questions are asked
// as they stand.
Result<json> line_of_world(const json& world, const std::string& id) {
  CELSLM_TRY(const JsonFields fields, JsonFields::of(world, "worlds[]"));
  CELSLM_TRY(const std::string context, fields.required_text("context"));
  CELSLM_TRY(const json* questions, fields.required_list("questions", kMaxItems));
  json asked = json::array();
  for (const json& item : *questions) {
    CELSLM_TRY(const JsonFields question, JsonFields::of(item, "questions[]"));
    CELSLM_TRY(const std::string text, question.required_text("question"));
    CELSLM_TRY(const std::string answer, question.required_text("answer"));
    CELSLM_TRY(const auto reply, question.text("reply"));
    asked.push_back({{"q", text}, {"answers", json::array({reply.value_or(answer), answer})}});
  }
  return json{{"id", id},          {"metric", "squad_em_f1"}, {"context", context},
              {"system", context}, {"plain", true},           {"questions", std::move(asked)}};
}

// Calls `read` with each bulletin as such a line.
Status for_each_world(const fs::path& path, const LineReader& read) {
  CELSLM_TRY(const Bytes bytes, read_file(path, kMaxFileBytes));
  const auto each = [&]() -> Status {
    CELSLM_TRY(const json object, parse_object(as_text(bytes), kLimits));
    CELSLM_TRY(const json* worlds, JsonFields(object).required_list("worlds", kMaxItems));
    int number = 0;
    for (const json& world : *worlds) {
      CELSLM_TRY(const json line, line_of_world(world, fmt::format("{}-{}", path.stem().string(), ++number)));
      CELSLM_CHECK_OK(read(dump_json(line), number));
    }
    return {};
  };
  if (Status status = each(); !status) return wrap(std::move(status).error(), path.string());
  return {};
}

Result<std::string> with_choices(const JsonFields& question, std::string text) {
  CELSLM_TRY(const json* choices, question.required_list("choices", kLetters.size()));
  for (std::size_t i = 0; i < choices->size(); ++i) {
    if (!(*choices)[i].is_string()) return question.expected("choices", "a list of texts");
    text += fmt::format("\n{}) {}", kLetters[i], (*choices)[i].get<std::string>());
  }
  return text + "\nAnswer with the letter only.";
}

Status for_each(const fs::path& path, const LineReader& read) {
  return path.extension() == ".json" ? for_each_world(path, read) : for_each_line(path, read);
}

Result<QuestionsLine::Asked> asked_of(const json& item, bool choices, bool plain) {
  CELSLM_TRY(const JsonFields question, JsonFields::of(item, "questions[]"));
  QuestionsLine::Asked out;
  CELSLM_TRY(out.prompt, question.required_text("q"));
  if (choices) {
    CELSLM_TRY(out.prompt, with_choices(question, std::move(out.prompt)));
  }
  if (!plain) out.prompt += kBriefly;
  CELSLM_TRY(const json* answers, question.required_list("answers", kMaxItems));
  if (answers->empty() || !answers->front().is_string()) return question.expected("answers", "a list of texts, not empty");
  out.gold = answers->front().get<std::string>();
  if (out.gold.empty()) return question.expected("answers", "a list of texts, none of them empty");
  return out;
}

}  // namespace

Result<StudyText> read_study_text(const fs::path& path) {
  CELSLM_TRY(const Bytes bytes, read_file(path, kMaxFileBytes));
  if (const Status fits = check_text(as_text(bytes)); !fits) return wrap(fits.error(), path.string());
  return StudyText{.id = path.filename().string(), .text = std::string(as_text(bytes))};
}

Result<std::vector<StudyText>> read_study_contexts(const fs::path& path) {
  std::vector<StudyText> out;
  CELSLM_CHECK_OK(for_each(path, [&](std::string_view line, int number) -> Status {
    CELSLM_TRY(const json object, parse_object(line, kLimits));
    CELSLM_TRY(out.emplace_back(), context_of(object, path, number));
    return {};
  }));
  return out;
}

Result<std::vector<QuestionsLine>> read_questions(const fs::path& path) {
  std::vector<QuestionsLine> out;
  CELSLM_CHECK_OK(for_each(path, [&](std::string_view line, int number) -> Status {
    CELSLM_TRY(const json object, parse_object(line, kLimits));
    const JsonFields fields(object);
    QuestionsLine& read = out.emplace_back();
    read.line = line;
    CELSLM_TRY(read.text, context_of(object, path, number));
    CELSLM_TRY(const std::string metric, fields.required_text("metric"));
    CELSLM_TRY(const auto plain, fields.flag("plain"));
    CELSLM_TRY(const json* questions, fields.required_list("questions", kMaxItems));
    for (const json& item : *questions) {
      CELSLM_TRY(read.questions.emplace_back(), asked_of(item, metric == "multiple_choice", plain.value_or(false)));
    }
    return {};
  }));
  return out;
}

std::string annotated_line(const QuestionsLine& line, const std::vector<Teacher>& teachers, std::int64_t tokens,
                           const Hash256& model) {
  auto object = parse_object(line.line, kLimits).value_or(json::object());
  for (std::size_t i = 0; i < teachers.size(); ++i) object["questions"][i]["teacher"] = to_json(teachers[i]);
  object["id"] = line.text.id;
  object["study"] = {{"version", kStudyVersion}, {"model", model.hex()}, {"tokens", tokens}, {"finished", true}};
  return dump_json(object);
}

void make_unique(const std::vector<StudyText*>& texts) {
  std::set<std::string> used;
  for (StudyText* text : texts) {
    const std::string id = text->id;
    for (int n = 2; !used.insert(text->id).second; ++n) text->id = fmt::format("{}#{}", id, n);
  }
}

}  // namespace celslm
