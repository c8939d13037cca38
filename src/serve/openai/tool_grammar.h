// The grammar of an answer with calls of tools: the words of the model's format, names that exist, arguments by the schemas.
#pragma once

#include "core/result.h"
#include "model/grammar/grammar_spec.h"
#include "model/text/tool_format.h"
#include "serve/openai/tools.h"

namespace celslm {

// use.allowed() must hold. With choice kAuto the grammar begins where the model begins a call; else the answer consists of
// calls, behind its thoughts where it begins in them. A schema that cannot be enforced is replaced by any object, or refused
// where the tool is strict (kInvalid, naming the tool and the keyword).
Result<GrammarSpec> tool_grammar(const ToolUse& use, const ChatStyle& style, bool begins_in_thoughts);

// Words that the model writes behind its calls, where it waits for results: an answer ends there.
std::vector<std::string> stops_behind_calls(const ToolUse& use, const ChatStyle& style);

// Either calls, as `calls` requires them, or the text that `format` (made by read_response_format) describes.
GrammarSpec either(const GrammarSpec& calls, const GrammarSpec& format);

}  // namespace celslm
