#include "align/study/progress.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "align/study/prompts.h"
#include "core/json.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr std::size_t kMostQuestions = 1U << 20;
constexpr std::size_t kMostAnswerTokens = 4096;
constexpr std::int64_t kMostTokens = 1LL << 50;
constexpr int kMostCount = 1 << 30;

// Four decimals: more would double a file's size.
double rounded(float log_p) {
  return std::round(static_cast<double>(log_p) * 1e4) / 1e4;
}

json to_json(const StudiedQuestion& question) {
  json out{{"q", question.question}, {"answers", question.answers}, {"style", question.style}};
  if (question.closed_book) out["closed_book"] = true;
  out["teacher"] = celslm::to_json(question.teacher);
  return out;
}

Result<std::vector<TokenLogprob>> top_from(const JsonFields& fields, const json& list) {
  std::vector<TokenLogprob> out;
  if (!list.is_array() || list.size() > kTeacherTop) return fields.expected("top", "a list of at most 32 pairs each");
  for (const json& pair : list) {
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_number_integer() || !pair[1].is_number())
      return fields.expected("top", "pairs of a token and its log probability");
    out.push_back({.token = pair[0].get<Token>(), .logprob = pair[1].get<float>()});
  }
  return out;
}

Result<Teacher> teacher_from(const JsonFields& fields) {
  Teacher out;
  CELSLM_TRY(const json* tokens, fields.required_list("tokens", kMostAnswerTokens));
  for (const json& token : *tokens) {
    if (!token.is_number_integer()) return fields.expected("tokens", "a list of tokens");
    out.tokens.push_back(token.get<Token>());
  }
  CELSLM_TRY(const json* top, fields.required_list("top", kMostAnswerTokens));
  for (const json& list : *top) {
    CELSLM_TRY(out.top.emplace_back(), top_from(fields, list));
  }
  if (out.top.size() != out.tokens.size()) return fields.expected("top", "as long as 'tokens'");
  return out;
}

Result<StudiedQuestion> question_from(const json& value) {
  CELSLM_TRY(const JsonFields fields, JsonFields::of(value, "questions[]"));
  StudiedQuestion out;
  CELSLM_TRY(out.question, fields.required_text("q"));
  CELSLM_TRY(out.style, fields.required_text("style"));
  CELSLM_TRY(const auto closed_book, fields.flag("closed_book"));
  out.closed_book = closed_book.value_or(false);
  CELSLM_TRY(const json* answers, fields.required_list("answers", kMostQuestions));
  for (const json& answer : *answers) {
    if (!answer.is_string()) return fields.expected("answers", "a list of texts");
    out.answers.push_back(answer.get<std::string>());
  }
  if (out.answers.empty()) return fields.expected("answers", "a list of texts, not empty");
  CELSLM_TRY(const JsonFields teacher, fields.required_object("teacher"));
  CELSLM_TRY(out.teacher, teacher_from(teacher));
  return out;
}

json counts_of(const std::map<std::string, int>& dropped) {
  json out = json::object();
  for (const auto& [reason, n] : dropped) out[reason] = n;
  return out;
}

}  // namespace

void StudyProgress::add(StudyRound round) {
  ++rounds;
  next = round.next;
  tokens += round.tokens;
  turns += round.turns;
  written += round.written;
  for (const auto& [reason, n] : round.dropped) dropped[reason] += n;
  fruitless = round.questions.empty() ? fruitless + 1 : 0;
  for (StudiedQuestion& question : round.questions) questions.push_back(std::move(question));
  finished = round.last;
}

json to_json(const Teacher& teacher) {
  json top = json::array();
  for (const auto& list : teacher.top) {
    json& pairs = top.emplace_back(json::array());
    for (const TokenLogprob& one : list) pairs.push_back(json::array({one.token, rounded(one.logprob)}));
  }
  return {{"tokens", teacher.tokens}, {"top", std::move(top)}};
}

json to_json(const StudyRound& round) {
  json questions = json::array();
  for (const StudiedQuestion& question : round.questions) questions.push_back(to_json(question));
  return {{"next", round.next},
          {"tokens", round.tokens},
          {"turns", round.turns},
          {"written", round.written},
          {"last", round.last},
          {"dropped", counts_of(round.dropped)},
          {"questions", std::move(questions)}};
}

Result<StudyRound> round_from(const json& value) {
  CELSLM_TRY(const JsonFields fields, JsonFields::of(value, "round"));
  StudyRound out;
  CELSLM_TRY(const auto next, fields.required_integer("next", 0, kMostTokens));
  out.next = static_cast<std::size_t>(next);
  CELSLM_TRY(out.tokens, fields.required_integer("tokens", 0, kMostTokens));
  CELSLM_TRY(const auto turns, fields.required_integer("turns", 0, kMostCount));
  out.turns = static_cast<int>(turns);
  CELSLM_TRY(const auto written, fields.required_integer("written", 0, kMostCount));
  out.written = static_cast<int>(written);
  CELSLM_TRY(out.last, fields.required_flag("last"));
  const json* dropped = fields.find("dropped");
  if (dropped == nullptr || !dropped->is_object()) return fields.expected("dropped", "an object");
  for (const auto& [reason, n] : dropped->items()) {
    if (!n.is_number_integer()) return fields.expected("dropped", "an object of numbers");
    out.dropped[reason] = n.get<int>();
  }
  CELSLM_TRY(const json* questions, fields.required_list("questions", kMostQuestions));
  for (const json& question : *questions) {
    CELSLM_TRY(out.questions.emplace_back(), question_from(question));
  }
  return out;
}

std::string StudyText::system_message() const {
  return system.empty() ? std::string(kTextSystem) + text : system;
}

std::string study_line(const StudyText& text, const StudyProgress& progress, const StudyOptions& options,
                       const Hash256& model) {
  json questions = json::array();
  for (const StudiedQuestion& question : progress.questions) questions.push_back(to_json(question));
  json out{{"id", text.id}, {"metric", "squad_em_f1"}, {"context", text.text}, {"questions", std::move(questions)}};
  if (!text.system.empty()) out["system"] = text.system;
  if (options.ask_by == AskBy::kUserTurn) out["plain"] = true;
  out["study"] = {{"version", kStudyVersion},
                  {"model", model.hex()},
                  {"seed", options.seed},
                  {"budget", options.budget},
                  {"wanted", options.questions},
                  {"tokens", progress.tokens},
                  {"turns", progress.turns},
                  {"written", progress.written},
                  {"kept", progress.questions.size()},
                  {"finished", progress.finished},
                  {"dropped", counts_of(progress.dropped)}};
  if (options.ask_by == AskBy::kUserTurn) out["study"]["ask_by"] = kUserTurnStyle;
  return dump_json(out);
}

}  // namespace celslm
