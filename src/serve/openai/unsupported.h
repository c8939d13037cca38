// Fields of OpenAI's API that would change its answer and that this server does not honour: refused by name, so that nobody
// takes an answer for something that it is not.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string_view>

#include "core/json.h"
#include "core/result.h"

namespace celslm {

struct UnsupportedField {
  std::string_view name;
  bool (*harmless)(const JsonFields& request, const nlohmann::json& value);  // a value that asks for nothing
  std::string_view expected;                                                 // what would be accepted, for people
};

extern const std::span<const UnsupportedField> kChatFields;
extern const std::span<const UnsupportedField> kCompletionFields;
extern const std::span<const UnsupportedField> kEmbeddingFields;

// kInvalid for the first field with a value that is not harmless. Null is the same as absent.
Status refuse_unsupported(const JsonFields& fields, std::span<const UnsupportedField> unsupported);

}  // namespace celslm
