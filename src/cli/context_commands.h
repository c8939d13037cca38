// Parts of 'celslm context' that have files of their own.
#pragma once

#include <string>
#include <vector>

#include "cli/terminal/environment.h"
#include "core/result.h"

namespace celslm {

// Reads example requests and prints what to register and where text that changes should go. folder: where the texts to
// register are written as context-1.txt, …; empty: nowhere. Errors name the file.
Status advise_contexts(Environment& env, const std::vector<std::string>& files, const std::string& folder);

}  // namespace celslm
