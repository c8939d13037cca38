// The folder in which models are kept, and models by name.
#pragma once

#include <filesystem>
#include <string>

#include "cli/terminal/environment.h"

namespace celslm {

// Where `celslm model get` and `./dev models` keep models: $CELSLM_CACHE/models, else celslm/models below
// $XDG_CACHE_HOME or ~/.cache. kNotFound when none of these variables is set.
Result<std::filesystem::path> models_folder(const Environment& env);

// The file that --model means: the path itself where there is such a file, else in the models folder the file NAME,
// NAME.gguf, or the only one that begins with NAME. kNotFound, with the models there are.
Result<std::filesystem::path> find_model_file(const Environment& env, const std::filesystem::path& name);

}  // namespace celslm
