// JSON itself as GBNF (RFC 8259), the rules that schemas are made of.
#pragma once

#include <array>
#include <string_view>
#include <utility>

namespace celslm {

// Between two tokens of JSON at most a space, or a line break and an indentation, so that a model cannot dwell on blanks.
inline constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kJsonRules{{
    {"json-value", R"(json-object | json-array | json-string | json-number | "true" | "false" | "null")"},
    {"json-object", R"("{" json-ws ( json-member ( json-ws "," json-ws json-member )* json-ws )? "}")"},
    {"json-member", R"(json-string json-ws ":" json-ws json-value)"},
    {"json-array", R"("[" json-ws ( json-value ( json-ws "," json-ws json-value )* json-ws )? "]")"},
    {"json-string", R"("\"" json-char* "\"")"},
    // No surrogates (\uD800 to \uDFFF): alone they are not text, and whatever a pair says can be written plainly.
    {"json-char", R"([^"\\\x00-\x1F] | "\\" ( ["\\/bfnrt] | "u" json-escape ))"},
    {"json-escape", R"([0-9a-cefA-CEF] json-hex json-hex json-hex | [dD] [0-7] json-hex json-hex)"},
    {"json-hex", R"([0-9a-fA-F])"},
    {"json-integer", R"("-"? ( "0" | [1-9] [0-9]{0,15} ))"},
    {"json-number", R"("-"? ( "0" | [1-9] [0-9]{0,15} ) ( "." [0-9]{1,16} )? ( [eE] [-+]? [0-9]{1,3} )?)"},
    {"json-ws", R"(( " " | "\n" [ \t]{0,20} )?)"},
}};

}  // namespace celslm
