#include "serve/openai/unsupported.h"

#include <array>
#include <nlohmann/json.hpp>

namespace celslm {
namespace {

using nlohmann::json;

bool never(const JsonFields&, const json&) {
  return false;
}

bool is_empty(const JsonFields&, const json& value) {
  return value.empty() || value == "";
}

bool is_text_only(const JsonFields&, const json& value) {
  return value == json::array({"text"});
}

bool is_false(const JsonFields&, const json& value) {
  return value == false;
}

// As many as are returned: nothing is left out.
bool is_n(const JsonFields& request, const json& value) {
  const json* n = request.find("n");
  return value == (n == nullptr ? json(1) : *n);
}

bool is_medium(const JsonFields&, const json& value) {
  return value == "medium";
}

constexpr std::array kChat{
    UnsupportedField{"modalities", is_text_only, "[\"text\"]: answers are text"},
    UnsupportedField{"audio", never, "absent: answers are text"},
    UnsupportedField{"web_search_options", never, "absent: nothing is searched"},
    UnsupportedField{"verbosity", is_medium, "absent or 'medium': the model has no such setting"},
    UnsupportedField{"reasoning_effort", is_medium,
                     "absent or 'medium': chat_template_kwargs.enable_thinking turns thoughts off"},
    UnsupportedField{"moderation", never, "absent: nothing is moderated"},
    UnsupportedField{"best_of", is_n, "absent: texts are not ranked"},
    UnsupportedField{"suffix", is_empty, "absent: text is not inserted"},
    UnsupportedField{"echo", is_false, "absent: chats do not repeat the messages"},
};

constexpr std::array kCompletion{
    UnsupportedField{"best_of", is_n, "absent, or equal to 'n': texts are not ranked"},
    UnsupportedField{"suffix", is_empty, "absent: text is not inserted"},
};

constexpr std::array kEmbedding{
    UnsupportedField{"dimensions", never, "absent: embeddings have the model's own width"},
};

}  // namespace

constinit const std::span<const UnsupportedField> kChatFields = kChat;
constinit const std::span<const UnsupportedField> kCompletionFields = kCompletion;
constinit const std::span<const UnsupportedField> kEmbeddingFields = kEmbedding;

Status refuse_unsupported(const JsonFields& fields, std::span<const UnsupportedField> unsupported) {
  for (const UnsupportedField& field : unsupported) {
    const json* value = fields.find(field.name);
    if (value != nullptr && !field.harmless(fields, *value)) return fields.expected(field.name, field.expected);
  }
  return {};
}

}  // namespace celslm
