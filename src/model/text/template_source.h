// A chat template's source before it is parsed: refused where it could exhaust this process, and with its steps counted.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace celslm {

// A template is a program out of a model's file, and the parser and interpreter behind it (minja) are made for friendly
// ones: they recurse once per bracket, operator and letter of a comment, divide by zero and read past a string's end.
struct TemplateSource {
  std::string text;                   // calls kStepFunction at the head of each loop's and macro's body
  std::vector<std::string> literals;  // the strings in its tags, unescaped
};

inline constexpr const char* kStepFunction = "celslm_step";
inline constexpr std::size_t kMaxTemplateBytes = 64U << 10;  // parsing takes some 5 s then, as it grows with the square

// kInvalid, naming what is refused: sizes and nesting beyond limits that no known model's template comes near, recursive
// loops, macros inside loops, slices with a step other than [::-1], and division by anything but a positive whole number.
Result<TemplateSource> read_template_source(std::string_view source);

}  // namespace celslm
