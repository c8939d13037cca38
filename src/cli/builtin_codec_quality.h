// models/codec-quality.json, in the program: what codecs do to the models that this project measures.
#pragma once

#include <string_view>

namespace celslm {

// The file's text.
std::string_view builtin_codec_quality();

}  // namespace celslm
