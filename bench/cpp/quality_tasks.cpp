#include "bench/cpp/quality_tasks.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/json.h"

namespace celslm {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kMaxTaskBytes = 1ULL << 30;
constexpr std::size_t kMaxItems = 1U << 24;  // lists are limited by the file's size

Result<std::vector<QualityTask::Asked>> parse_questions(const Json& list, const char* name) {
  std::vector<QualityTask::Asked> out;
  for (const Json& item : list) {
    CELSLM_TRY(const JsonFields question, JsonFields::of(item, name));
    QualityTask::Asked asked;
    CELSLM_TRY(asked.prompt, question.required_text("prompt"));
    CELSLM_TRY(asked.gold, question.required_text("gold"));
    out.push_back(std::move(asked));
  }
  return out;
}

Result<QualityTask> parse_task(std::string_view line) {
  CELSLM_TRY(const Json object, parse_object(line, {.values = std::numeric_limits<int>::max() - 1}));
  const JsonFields fields(object);
  QualityTask out;
  CELSLM_TRY(out.number, fields.required_integer("context", 0, std::numeric_limits<int>::max()));
  CELSLM_TRY(out.system, fields.required_text("system"));
  CELSLM_TRY(const auto plain, fields.flag("plain"));
  out.plain = plain.value_or(false);
  CELSLM_TRY(const Json* reads, fields.required_list("reads", kMaxItems));
  for (const Json& name : *reads) {
    if (!name.is_string()) return fields.expected("reads", "a list of names");
    out.reads.push_back(name.get<std::string>());
  }
  CELSLM_TRY(const Json* questions, fields.required_list("questions", kMaxItems));
  CELSLM_TRY(out.questions, parse_questions(*questions, "questions[]"));
  if (!object.contains("study")) return out;
  CELSLM_TRY(const Json* study, fields.required_list("study", kMaxItems));
  CELSLM_TRY(out.study, parse_questions(*study, "study[]"));
  return out;
}

}  // namespace

Result<std::vector<QualityTask>> read_quality_tasks(const std::filesystem::path& path) {
  CELSLM_TRY(const Bytes bytes, read_file(path, kMaxTaskBytes));
  std::vector<QualityTask> out;
  std::string_view rest = as_text(bytes);
  for (int line = 1; !rest.empty(); ++line) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    auto task = parse_task(rest.substr(0, end));
    if (!task) return wrap(std::move(task).error(), fmt::format("{}:{}", path.string(), line));
    out.push_back(*std::move(task));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return out;
}

std::size_t QualityPrompts::tokens(int limit) const {
  std::size_t longest = 0;
  for (const AskedQuestion& question : questions)
    longest = std::max(longest, question.prompt.size() + std::max(static_cast<std::size_t>(limit), question.gold.size()));
  return context.size() + longest;
}

namespace {

QualityPrompts plain_prompts(const Text& text, const QualityTask& task) {
  QualityPrompts out{.context = text.tokenize(task.system, true, false)};
  for (const QualityTask::Asked& asked : task.questions)
    out.questions.push_back({text.tokenize(asked.prompt, false, false), text.tokenize(asked.gold, false, false)});
  return out;
}

}  // namespace

Result<QualityPrompts> prompts_of(const Text& text, const QualityTask& task, bool with_context) {
  if (task.plain) return plain_prompts(text, task);
  QualityPrompts out;
  if (with_context) {
    CELSLM_TRY(out.context, text.context(task.system));
  }
  for (const QualityTask::Asked& asked : task.questions) {
    std::vector<ChatMessage> messages;
    if (with_context) messages.push_back({"system", task.system});
    messages.push_back({"user", asked.prompt});
    CELSLM_TRY(auto prompt, text.chat(messages));
    if (!std::ranges::starts_with(prompt, out.context))
      return fail(ErrorKind::kInternal, "context {}: a conversation does not begin with its context's tokens", task.number);
    prompt.erase(prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(out.context.size()));
    out.questions.push_back({std::move(prompt), text.tokenize(asked.gold, false, false)});
  }
  return out;
}

}  // namespace celslm
