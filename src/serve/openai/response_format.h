// What an answer must look like, as a request asks for it: `grammar` (llama.cpp's field) or `response_format` (OpenAI's).
#pragma once

#include <string_view>

#include "core/json.h"
#include "core/result.h"
#include "model/grammar/grammar_spec.h"

namespace celslm {

// fields: of the request; body: its text, read again for the order of a schema's properties. Formats: text; json_object,
// with or without `schema`; json_schema. A schema is always kept to, `strict` or not. kInvalid names the field, and in a
// schema the keyword that is not supported.
Result<GrammarSpec> read_response_format(const JsonFields& fields, std::string_view body);

}  // namespace celslm
