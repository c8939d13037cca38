#include "align/texts/documents.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "core/file.h"
#include "core/json.h"
#include "core/text.h"

namespace celslm {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kMaxTextBytes = 1ULL << 30;  // limits reading from a device file such as /dev/zero
constexpr std::size_t kMaxItems = 1U << 24;          // lists are limited by the file's size
constexpr int kMaxSteps = 1000;                      // of a question: a typing error
constexpr const char* kWhiteSpace = " \t\r\n";

Document make_document(std::string text, bool is_context) {
  Document out{.text = std::move(text), .is_context = is_context};
  out.hash = hash_of(trimmed(out.text, kWhiteSpace));
  return out;
}

std::vector<Document> split_text(std::string_view text) {
  std::vector<Document> out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find("\n\n"), text.size());
    if (std::string part(trimmed(text.substr(0, end), kWhiteSpace)); !part.empty())
      out.push_back(make_document(std::move(part), false));
    text.remove_prefix(std::min(end + 2, text.size()));
  }
  return out;
}

Result<Question> parse_question(const JsonFields& fields) {
  Question out;
  CELSLM_TRY(out.text, fields.required_text("question"));
  CELSLM_TRY(out.answer, fields.required_text("answer"));
  CELSLM_TRY(auto reply, fields.text("reply"));
  out.reply = std::move(reply).value_or("");
  CELSLM_TRY(const auto steps, fields.integer("steps", 0, kMaxSteps));
  out.steps = static_cast<int>(steps.value_or(0));
  return out;
}

Result<Document> parse_world(const JsonFields& fields) {
  CELSLM_TRY(std::string context, fields.required_text("context"));
  Document out = make_document(std::move(context), true);
  CELSLM_TRY(const Json* questions, fields.list("questions", kMaxItems));
  for (std::size_t i = 0; questions != nullptr && i < questions->size(); ++i) {
    CELSLM_TRY(const auto one, JsonFields::of((*questions)[i], fields.path(fmt::format("questions[{}]", i))));
    CELSLM_TRY(Question question, parse_question(one));
    out.questions.push_back(std::move(question));
  }
  return out;
}

Result<std::vector<Document>> parse_worlds(std::string_view text) {
  CELSLM_TRY(const Json object, parse_object(text, {.values = std::numeric_limits<int>::max() - 1}));
  CELSLM_TRY(const Json* worlds, JsonFields(object).required_list("worlds", kMaxItems));
  std::vector<Document> out;
  for (std::size_t i = 0; i < worlds->size(); ++i) {
    CELSLM_TRY(const auto world, JsonFields::of((*worlds)[i], fmt::format("worlds[{}]", i)));
    CELSLM_TRY(Document document, parse_world(world));
    out.push_back(std::move(document));
  }
  return out;
}

}  // namespace

Result<std::vector<Document>> read_documents(const std::filesystem::path& path) {
  CELSLM_TRY(const Bytes bytes, read_file(path, kMaxTextBytes));
  auto documents = path.extension() == ".json" ? parse_worlds(as_text(bytes)) : split_text(as_text(bytes));
  if (!documents) return wrap(std::move(documents).error(), path.string());
  if (documents->empty()) return fail(ErrorKind::kInvalid, "{}: the file contains no text", path.string());
  return documents;
}

Result<std::vector<Document>> read_documents(const std::vector<std::string>& paths) {
  std::vector<Document> out;
  std::unordered_set<Hash256> seen;
  for (const std::string& path : paths) {
    CELSLM_TRY(std::vector<Document> documents, read_documents(std::filesystem::path(path)));
    for (Document& document : documents) {
      if (seen.insert(document.hash).second) out.push_back(std::move(document));
    }
  }
  return out;
}

Result<std::vector<Token>> tokens_of(const Text& text, const Document& document, int limit) {
  std::vector<Token> out;
  if (document.is_context) {
    CELSLM_TRY(out, text.context(document.text));
  } else {
    out = text.tokenize(document.text, text.adds_bos(), false);
  }
  if (out.size() > static_cast<std::size_t>(limit)) out.resize(static_cast<std::size_t>(limit));
  return out;
}

Result<std::vector<Token>> tokens_of(const Text& text, const Document& document, const Question& question) {
  if (!document.is_context) return fail(ErrorKind::kInvalid, "a question needs a context, but this document is plain text");
  CELSLM_TRY(const auto context, text.context(document.text));
  const std::vector<ChatMessage> messages{{"system", document.text}, {"user", question.text}};
  CELSLM_TRY(auto all, text.chat(messages));
  all.erase(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(context.size()));
  return all;
}

}  // namespace celslm
